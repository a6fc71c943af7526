"""Compiled regions: the hot part of a model as one function, by torch.compile."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from limner.cpu.products import lower_to_onednn

ON_A_CPU: dict[str, Any] = {
    "cpp_wrapper": True,
    "cpp.use_decompose_tanh": True,
    "size_asserts": False,
    "alignment_asserts": False,
}
"""What a region does is called from C++ too, tanh is taken by way of exp, and the shapes of
intermediate tensors are not checked."""


@cache
def compiled(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """`function` compiled for a kind of device and the shapes it is called with, for all models."""
    torch._dynamo.config.recompile_limit = 64  # every model, mode and shape is a version; 8 is few
    if device != "cpu":
        return torch.compile(function, dynamic=False)
    lower_to_onednn()
    return torch.compile(function, dynamic=False, options=ON_A_CPU)
