"""Fails on what a CUDA graph cannot repeat: reading from the device, copying to or from it.

On a CPU, `tolist` and `numpy` go unnoticed; on the meta device, which has no values, they fail.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
READS = {
    aten._local_scalar_dense,  # item, bool, int, float
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten._unique,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.bincount,
    aten.repeat_interleave,
}
"""Operations that wait for the device, most of them because values decide the result's shape."""
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten.copy_, aten._to_copy}
FROM_PYTHON = {aten.lift_fresh}
"""torch.tensor(3.0) and new_tensor: a copy from the host on a GPU."""


class HostRead(AssertionError):
    pass


class NoHostReads(TorchDispatchMode):
    """A context in which they fail."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        kind, flat = func.overloadpacket, tree_leaves((args, kwargs))
        tensors = [each for each in flat if isinstance(each, torch.Tensor)]
        if kind in READS or kind in FROM_PYTHON:
            raise HostRead(f"{func} waits for the device")
        masks = (torch.bool, torch.uint8)
        if kind in INDEXING and any(t.dtype in masks for t in tree_leaves(args[1])):
            raise HostRead(f"{func} by a mask waits for the device")
        devices = {t.device for t in tensors}
        if kind in COPIES and len(devices | {kwargs.get("device")} - {None}) > 1:
            raise HostRead(f"{func} between {devices}")
        return func(*args, **kwargs)
