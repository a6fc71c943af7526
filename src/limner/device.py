"""Devices: their choice, and what is done elsewhere because a device cannot do it.

CPUs and CUDA GPUs are computed on in full. Others, such as Apple's `mps`, get their noise from the
CPU, so that it is the CPU's own, and sums in float64 are made on the CPU, since `mps` has none.
"""

import contextlib

import torch
from torch import Tensor

from limner.errors import InputError

Device = str | torch.device
"""A device, its name in torch, or `auto`: CUDA if present, otherwise mps, otherwise the CPU."""
_NAMES = "auto, cpu, cuda, mps or another name of torch, such as cuda:1"
_TRIED = ("cpu", "cuda")
"""Types of devices on which every part was tested."""


def named_device(device: Device) -> str:
    """The name of a device that torch knows, present or not.

    Raises:
        InputError: torch knows no such device, or it holds no values.
    """
    name = str(device)
    try:
        known = name == "auto" or torch.device(name).type != "meta"
    except RuntimeError:
        known = False
    if not known:
        raise InputError(f"There is no device {name!r}; use {_NAMES}.")
    return name


def pick_device(device: Device) -> torch.device:
    """The device, with its index, of that name.

    Raises:
        InputError: torch knows no such device, or it is absent.
    """
    name = named_device(device)
    return _present(_best() if name == "auto" else name)


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _present(name: str) -> torch.device:
    device, count = torch.device(name), torch.cuda.device_count()
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "cuda" and (device.index or 0) < count:  # without memory on the GPU
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.device("cuda", index)
    if device.type != "cuda":
        with contextlib.suppress(RuntimeError, AssertionError, ImportError):
            return torch.empty(0, device=device).device
    *others, last = ["auto", "cpu", *(f"cuda:{index}" for index in range(count))]
    raise InputError(f"There is no device {name} here; use {', '.join(others)} or {last}.")


def is_tried(device: torch.device) -> bool:
    """Whether every part was tested on this type of device: a CPU or CUDA."""
    return device.type in _TRIED


def noise_source(device: torch.device) -> torch.Generator:
    """A generator for tensors on `device`: its own on CUDA, otherwise one of the CPU.

    `fill_normal` and `fill_uniform` accept both.
    """
    return torch.Generator(device if device.type == "cuda" else "cpu")


def fill_normal(tensor: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise in place; a generator of the CPU has the same for every device.

    Without one it comes from the global random state of CUDA or the CPU.
    """
    if _draws(tensor.device, generator):
        return tensor.normal_(generator=generator)
    return tensor.copy_(torch.empty(tensor.shape, dtype=tensor.dtype).normal_(generator=generator))


def fill_uniform(tensor: Tensor, generator: torch.Generator | None) -> Tensor:
    """As `fill_normal`, uniform in [0, 1)."""
    if _draws(tensor.device, generator):
        return tensor.uniform_(generator=generator)
    return tensor.copy_(torch.empty(tensor.shape, dtype=tensor.dtype).uniform_(generator=generator))


def _draws(device: torch.device, generator: torch.Generator | None) -> bool:
    """Whether the device draws its noise itself."""
    return is_tried(device) if generator is None else generator.device.type == device.type


def summing_device(device: torch.device) -> torch.device:
    """Where sums of values on `device` are made in float64."""
    return device if is_tried(device) else torch.device("cpu")
