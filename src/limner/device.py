"""Choice of the device."""

from typing import Literal

import torch

from limner.errors import InputError

Device = Literal["auto", "cpu", "cuda"]


def pick_device(name: Device) -> torch.device:
    """The device of that name; `auto` is CUDA if available, otherwise the CPU.

    Raises:
        InputError: CUDA was requested and is not available.
    """
    present = torch.cuda.is_available()
    if name == "cuda" and not present:
        raise InputError("There is no CUDA device here; pass --device cpu or auto.")
    return torch.device("cuda" if present and name != "cpu" else "cpu")
