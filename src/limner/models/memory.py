"""The memory of a device, and the memory that an inference takes."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import torch
from torch import Tensor

from limner.device import noise_source
from limner.layers.copies import with_tensors

if TYPE_CHECKING:
    from limner.models.base import LatentVariableModel

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Files with the memory limit of a Linux container: cgroup version 2, then version 1."""
CGROUP_USES = (
    Path("/sys/fs/cgroup/memory.current"),
    Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Files with the memory that the container uses."""


def device_memory(device: torch.device) -> int:
    """Total memory of `device` in bytes; for a CPU, at most the limit of the container."""
    backend = _backend(device)
    return backend.get_device_properties(device).total_memory if backend else host_memory()


def free_memory(device: torch.device) -> int:
    """Memory of `device` in bytes that is free; for a CPU, at most what the container has left."""
    if backend := _backend(device):
        return backend.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    for limit, used in zip(CGROUP_LIMITS, CGROUP_USES, strict=True):
        try:
            used_bytes = int(used.read_text(encoding="ascii")) - _reclaimable(used.parent)
            free = min(free, int(limit.read_text(encoding="ascii")) - used_bytes)
        except (OSError, ValueError):
            continue
    return max(0, free)


def _backend(device: torch.device) -> Any:
    """torch's module of a device with memory of its own; None for a CPU and for mps."""
    backend = getattr(torch, device.type, None)
    return backend if hasattr(backend, "mem_get_info") else None


def _reclaimable(group: Path) -> int:
    """Bytes of files that a container keeps in memory and can drop."""
    lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    found = dict(line.split() for line in lines)
    return int(found.get("total_inactive_file", found.get("inactive_file", 0)))


@cache
def host_memory(limits: tuple[Path, ...] = CGROUP_LIMITS) -> int:
    """Memory in bytes that this process may use: the machine's, or a limit if that is lower."""
    found = [psutil.virtual_memory().total]
    for path in limits:
        try:
            found.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such file, or no limit: "max"
            continue
    return min(found)


class SavedFloats(NamedTuple):
    """Numbers that autograd saves per image: once, and for each step."""

    once: int
    per_step: int


def saved_per_image(model: "LatentVariableModel") -> int:
    """Numbers that autograd saves for one more image, from trials with two and three images."""
    trial = with_tensors(model, {}).eval()
    trial.compiled = False
    return _saved(trial, 3) - _saved(trial, 2)


def _saved(model: "LatentVariableModel", images: int) -> int:
    """Numbers that autograd saves for `images` images, without parameters."""
    saved: dict[int, Tensor] = {}

    def count(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()  # with its graph, it would keep itself and the model alive
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    like = next(model.parameters())
    noise = noise_source(like.device).manual_seed(0)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(like.device.type, enabled=False),
        torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor),
    ):
        inference = model(like.new_zeros(images, *model.image_shape), noise)
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        del inference  # the graph, and with it what was saved, has been counted
    return sum(tensor.numel() for key, tensor in saved.items() if key not in own)
