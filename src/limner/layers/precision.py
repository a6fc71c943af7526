"""Under bfloat16 autocast, everything but products with weights stays in float32.

bfloat16 has 8 significant bits. That is enough for features, but not for canvases, windows,
densities and divergences: the bound is a sum of these over pixels and steps.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def full(tensor: Tensor) -> Tensor:
    """`tensor` in float32, or unchanged if it has at least that precision."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def autocasts(device: str) -> bool:
    """Whether autocast is on for a kind of device; the meta device has none."""
    return device != "meta" and torch.is_autocast_enabled(device)


def full_precision(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """`function` without autocast. Its first argument must be a tensor."""

    @wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = args[0].device.type  # type: ignore[attr-defined]
        if not autocasts(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return exact
