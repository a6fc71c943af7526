"""Compiled regions: the hot part of a model as one function, by torch.compile."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from limner.cpu.compiler import ON_A_CPU
from limner.cpu.products import lower_to_onednn

RECOMPILE_LIMIT = 64
"""Versions of one function. Each model, mode and shape is one; torch's own limit is 8."""


@cache
def compiled(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """`function` compiled for a kind of device and the shapes it is called with, for all models."""
    options: dict[str, Any] = {"dynamic": False}
    if device == "cpu":
        lower_to_onednn()
        options["options"] = ON_A_CPU
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        options["recompile_limit"] = RECOMPILE_LIMIT
        return torch.compile(function, **options)
    region = torch.compile(function, **options)  # an older torch has one limit for all regions
    return torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT)(region)
