"""A pretended `mps` device: computed on the CPU, and refusing what Apple's refuses.

Tensors there cannot be float64, cannot become NumPy arrays, do not mix with tensors of the CPU, and
have no random numbers but float ones; fused Adam ignores `grad_scale` and `found_inf`. It has
neither Apple's kernels nor its rounding.
"""

from contextlib import contextmanager
from unittest import mock

import torch
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    return_and_correct_aliasing,
)
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only

MPS = torch.device("mps", 0)
aten = torch.ops.aten
MIXING = {aten.copy_, aten._to_copy, aten.index, aten.index_put_, aten._index_put_impl_}
"""Operations that take tensors of two devices."""


class OnMps(torch.Tensor):
    """A tensor there; `value` is on the CPU."""

    @staticmethod
    def __new__(cls, value):
        if value.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype; please use float32.")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            value.shape,
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=value.device,
        )
        made.value = value
        return made

    device = property(lambda self: MPS)
    is_cpu = property(lambda self: False)
    is_mps = property(lambda self: True)

    def get_device(self):
        return 0

    def numpy(self, *_, **__):
        raise TypeError("can't convert mps:0 device type tensor to numpy.")

    __array__ = numpy

    def tolist(self):
        return self.value.tolist()

    def untyped_storage(self):
        return self.value.untyped_storage()

    def __deepcopy__(self, memo):
        made = OnMps(self.value.detach().clone()).requires_grad_(self.requires_grad)
        made._is_param = getattr(self, "_is_param", False)
        return memo.setdefault(id(self), made)

    def __repr__(self, *, tensor_contents=None):
        return f"OnMps({self.value!r})"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.Tensor.cpu:
            func, args = torch.Tensor.to, (args[0], torch.device("cpu"))
        if func is torch.Tensor.to:
            return moved(args[0], args[1:], kwargs)
        return super().__torch_function__(func, types, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatched(func, args, kwargs or {})


def moved(tensor, args, kwargs):
    """`tensor.to(...)`, which C++ would decide by what it takes for the device: the CPU."""
    if args and isinstance(args[0], torch.Tensor):
        args, kwargs = (), {"device": args[0].device, "dtype": args[0].dtype} | kwargs
    kwargs = {name: value for name, value in kwargs.items() if name != "copy"}
    device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    with torch._C.DisableTorchFunctionSubclass():
        if dtype is not None:
            tensor = tensor.to(dtype)
        if device is None or device.type == tensor.device.type:
            return tensor
        return tensor.to(device) if device.type == "mps" else Fetched.apply(tensor)


class Fetched(torch.autograd.Function):
    """A copy on the CPU, whose gradient goes back."""

    @staticmethod
    def forward(ctx, tensor):
        return tensor.value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.to(MPS)


class Pretending(TorchDispatchMode):
    """Sends new tensors with `device="mps"` there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatched(func, args, kwargs or {})


def dispatched(func, args, kwargs):
    """An operation with tensors of both devices."""
    flat, _ = tree_flatten((args, kwargs))
    tensors = [each for each in flat if isinstance(each, torch.Tensor)]
    there = [each for each in tensors if isinstance(each, OnMps)]
    device = next((torch.device(each) for each in flat if isinstance(each, torch.device)), None)
    target = (MPS if there else None) if device is None else device
    if target is None or (target.type != "mps" and not there):
        return func(*args, **kwargs)
    if there and func.overloadpacket not in MIXING:
        alien = [each for each in tensors if not isinstance(each, OnMps) and each.dim()]
        assert not alien, f"{func}: expected all tensors to be on the same device"
    if torch.Tag.nondeterministic_seeded in func.tags:
        check_random(func, flat, there)
    onto_cpu = tree_map_only(torch.device, lambda _: torch.device("cpu"), (args, kwargs))
    plain_args, plain = tree_map(lambda x: x.value if isinstance(x, OnMps) else x, onto_cpu)
    if "_fused_adam" in func.name():
        plain |= {"grad_scale": None, "found_inf": None}  # the kernel ignores them
    with _disable_current_modes():
        out = func(*plain_args, **plain)
    if target.type == "mps":
        out = tree_map_only(torch.Tensor, OnMps, out)
        return return_and_correct_aliasing(func, args, kwargs, out)
    return out


def check_random(func, flat, there):
    dtypes = {each.dtype for each in there}
    assert dtypes <= {torch.float32, torch.float16, torch.bfloat16}, f"{func} of {dtypes} on mps"
    for source in flat:
        assert not isinstance(source, torch.Generator), f"{func}: a generator of the CPU on mps"


@contextmanager
def pretended_mps():
    """A context in which `mps` seems to be present."""
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with (
            mock.patch("torch.backends.mps.is_available", return_value=True),
            mock.patch("torch.mps.synchronize"),
            Pretending(),
        ):
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
