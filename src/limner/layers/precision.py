"""What stays in float32 under bfloat16 autocast: everything but the products with weights.

bfloat16 has 8 significant bits: enough for features, too few for canvases, windows, densities and
divergences, whose sums over pixels and steps are the bound.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def full(tensor: Tensor) -> Tensor:
    """`tensor` in float32, or as it is where it has at least that precision."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def full_precision(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """`function`, whose first argument is a tensor, computed as if there were no autocast."""

    @wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = args[0].device.type  # type: ignore[attr-defined]
        if device == "meta":  # it knows no autocast
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return exact
