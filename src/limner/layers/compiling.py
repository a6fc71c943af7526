"""Compiled regions: the costly part of a model as one function of torch.compile."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from limner.cpu.compiler import ON_A_CPU
from limner.cpu.products import lower_to_onednn
from limner.errors import InputError

RECOMPILE_LIMIT = 64
"""Compiled versions of one function: one per model, mode and shape. torch's default is 8."""


@cache
def compiled(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """`function` compiled for a type of device, once for all models. Each shape compiles again."""
    options: dict[str, Any] = {"dynamic": False}
    if device == "cpu":
        lower_to_onednn()
        options["options"] = ON_A_CPU
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        options["recompile_limit"] = RECOMPILE_LIMIT
        return torch.compile(function, **options)
    region = torch.compile(function, **options)  # an older torch has one global limit
    return torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT)(region)


def differentiable_once(*tensors: Tensor) -> tuple[Tensor, ...]:
    """`tensors` of a compiled region, whose gradients refuse to be differentiated again."""
    return _DifferentiableOnce.apply(*tensors)


class _DifferentiableOnce(Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            raise InputError(
                "A compiled model has first derivatives only; use one that is not compiled."
            )
        return gradients
