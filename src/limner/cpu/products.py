"""Matrix products on a CPU, by the faster of torch's two libraries; see README.md.

torch uses MKL, which uses 512-bit vectors only on Intel processors. oneDNN, which is also part of
torch, uses them on every processor that has them, and takes half the time on a recent AMD.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import Function

from limner.transforms import transformed

_OPERATORS = torch.library.Library("limner", "DEF")
_OPERATORS.define("product(Tensor a, Tensor b) -> Tensor")


def onednn_operator() -> Any:
    """torch's private operator for a product by oneDNN; None if this torch lacks it."""
    namespace = getattr(torch.ops, "mkldnn", None)
    return getattr(getattr(namespace, "_linear_pointwise", None), "default", None)


def onednn_is_faster() -> bool:
    """Whether the processor has 512-bit vectors and is not Intel's, and torch has the operator."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    try:
        intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    present = torch.backends.mkldnn.is_available() and onednn_operator() is not None
    return wide and not intel and present


class Library:
    """The library that computes the products; tests and benchmarks may change it."""

    is_onednn: bool = onednn_is_faster()


def by_onednn(a: Tensor, b: Tensor) -> bool:
    """Whether oneDNN computes a b^T: for float32 matrices on a CPU on which it is faster.

    It does not for empty matrices, under autocast, or under a transform of torch.func.
    """
    if not Library.is_onednn or a.dtype != torch.float32 or a.device.type != "cpu":
        return False
    matrices = a.dim() == b.dim() == 2 and a.numel() > 0 and b.numel() > 0
    plain = not torch.is_autocast_enabled("cpu") and not transformed()
    return matrices and plain and b.dtype == a.dtype


def product(a: Float[Tensor, "*rows inner"], b: Float[Tensor, "columns inner"]) -> Tensor:
    """a b^T, [*rows, columns], without a gradient."""
    if by_onednn(a, b):
        return torch.ops.limner.product.default(a, b)
    return a @ b.T


def affine(
    a: Float[Tensor, "rows inner"],
    b: Float[Tensor, "columns inner"],
    bias: Float[Tensor, "*batch columns"],
) -> Float[Tensor, "batch columns"]:
    """a b^T + bias, without a gradient. A single row of `a` is used for all rows of `bias`."""
    y = product(a, b)
    return y + bias if a.shape[0] == 1 else y.add_(bias)  # `addmm` would first copy the bias


class _Product(Function):
    """a b^T by oneDNN, with derivatives of any order."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return product(a, b)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        a, b = ctx.saved_tensors
        needs_a, needs_b = ctx.needs_input_grad
        of_a = differentiable_product(gradient, b.T) if needs_a else None
        of_b = differentiable_product(gradient.T, a.T) if needs_b else None
        return of_a, of_b


def differentiable_product(
    a: Float[Tensor, "*rows inner"], b: Float[Tensor, "columns inner"]
) -> Tensor:
    """a b^T, [*rows, columns]."""
    return _Product.apply(a, b) if by_onednn(a, b) else a @ b.T


def add_outer(
    sum: Float[Tensor, "out in"] | None,
    ds: Sequence[Float[Tensor, "_rows out"]],
    xs: Sequence[Float[Tensor, "_rows in"]],
) -> Float[Tensor, "out in"]:
    """`sum` plus d^T x over all pairs of d and x, by one product; in place unless it is None."""
    if not by_onednn(ds[0], xs[0]):
        d, x = _stacked(ds), _stacked(xs)
        return d.T @ x if sum is None else sum.addmm_(d.T, x)
    multiply = torch.ops.limner.product.default
    if xs[0].shape[1] < ds[0].shape[1]:  # the first factor is copied: take the narrower
        term = multiply(_side_by_side(xs), _stacked(ds).T).T
    else:
        term = multiply(_side_by_side(ds), _stacked(xs).T)
    return term if sum is None else sum.add_(term)


def _stacked(parts: Sequence[Tensor]) -> Float[Tensor, "rows columns"]:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def _side_by_side(parts: Sequence[Tensor]) -> Float[Tensor, "columns rows"]:
    return torch.cat([part.T for part in parts], dim=1)


def _onednn(a: Tensor, b: Tensor) -> Tensor:
    """a b^T. Rows or columns of `b` must be contiguous, or the product takes 1,000 times longer."""
    dense = b.is_contiguous() or b.T.is_contiguous()
    operator = onednn_operator()
    if operator is None:
        return a @ b.T
    return operator(a, b if dense else b.contiguous(), None, "none", [], "")


_OPERATORS.impl("product", _onednn, "CPU")
torch.library.register_fake(
    "limner::product", lambda a, b: a.new_empty(len(a), len(b)), lib=_OPERATORS
)


@cache
def lower_to_onednn() -> None:
    """Let compiled regions call oneDNN directly; the operator above is called through Python."""
    try:
        from torch._inductor.ir import FixedLayout, TensorBox
        from torch._inductor.lowering import register_lowering
        from torch._inductor.mkldnn_ir import LinearUnary
    except ImportError:  # private names of torch; without them, regions call the operator
        return

    @register_lowering(torch.ops.limner.product.default, type_promotion_kind=None)
    def lowered(a: Any, b: Any) -> Any:
        a = LinearUnary.require_contiguous(LinearUnary.realize_input(a))
        b = LinearUnary.realize_input(b)
        by_columns = list(b.get_stride()) == [1, b.get_size()[0]]
        b = b if by_columns else LinearUnary.require_contiguous(b)
        size = [a.get_size()[0], b.get_size()[0]]
        layout = FixedLayout(device=a.get_device(), dtype=a.get_dtype(), size=size)
        return TensorBox.create(LinearUnary(layout, [a, b], [None, "none", [-1], ""]))
