"""Matrix products with weights, by the faster of the two libraries that torch has on a CPU.

torch's own products are MKL's, which keeps its kernels of 512-bit vectors for Intel's processors.
oneDNN, which torch brings too, makes them for any: on a recent AMD it takes half the time.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import Function

_OPERATORS = torch.library.Library("limner", "DEF")
_OPERATORS.define("product(Tensor a, Tensor b) -> Tensor")


def _onednn_is_faster() -> bool:
    """Whether this processor has 512-bit vectors and is not Intel's."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    try:
        intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return wide and not intel and torch.backends.mkldnn.is_available()


ONEDNN_IS_FASTER = _onednn_is_faster()


def by_onednn(x: Tensor) -> bool:
    """Whether products with `x` are oneDNN's: of float32 on a CPU where it is the faster.

    Not under autocast, nor under the transforms of `torch.func`, which need to know a product.
    """
    plain = x.dtype == torch.float32 and x.device.type == "cpu"
    known = torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active()
    return plain and ONEDNN_IS_FASTER and known and not torch.is_autocast_enabled("cpu")


def product(
    a: Float[Tensor, "rows inner"], b: Float[Tensor, "columns inner"]
) -> Float[Tensor, "rows columns"]:
    """a b^T, differentiable."""
    return _Product.apply(a, b) if by_onednn(a) else a @ b.T


def add_outer(
    sum: Float[Tensor, "out in"] | None,
    ds: Sequence[Float[Tensor, "_rows out"]],
    xs: Sequence[Float[Tensor, "_rows in"]],
) -> Float[Tensor, "out in"]:
    """sum + d^T x over all pairs of d and x, by one product; in place where there is a sum."""
    if not by_onednn(ds[0]):
        d, x = _stacked(ds), _stacked(xs)
        return d.T @ x if sum is None else sum.addmm_(d.T, x)
    multiply = torch.ops.limner.product.default
    if xs[0].shape[1] < ds[0].shape[1]:  # the first is turned as it is copied
        term = multiply(_side_by_side(xs), _stacked(ds).T).T
    else:
        term = multiply(_side_by_side(ds), _stacked(xs).T)
    return term if sum is None else sum.add_(term)


def _stacked(parts: Sequence[Tensor]) -> Float[Tensor, "rows columns"]:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def _side_by_side(parts: Sequence[Tensor]) -> Float[Tensor, "columns rows"]:
    return torch.cat([part.T for part in parts], dim=1)


class Linear(nn.Linear):
    """y = x W^T + b."""

    def forward(self, input: Float[Tensor, "batch in"]) -> Float[Tensor, "batch out"]:
        if by_onednn(input):
            return product(input, self.weight) + self.bias
        return F.linear(input, self.weight, self.bias)


def _onednn(a: Tensor, b: Tensor) -> Tensor:
    """Rows of `b`, or its columns, must lie one after the other: else it takes a thousandfold."""
    dense = b.is_contiguous() or b.T.is_contiguous()
    b = b if dense else b.contiguous()
    return torch.ops.mkldnn._linear_pointwise.default(a, b, None, "none", [], "")


_OPERATORS.impl("product", _onednn, "CPU")
torch.library.register_fake(
    "limner::product", lambda a, b: a.new_empty(len(a), len(b)), lib=_OPERATORS
)


@cache
def lower_to_onednn() -> None:
    """Let compiled regions call oneDNN itself: the operator above goes by way of Python."""
    try:
        from torch._inductor.ir import FixedLayout, TensorBox
        from torch._inductor.lowering import register_lowering
        from torch._inductor.mkldnn_ir import LinearUnary
    except ImportError:  # torch does not promise these names, and the operator does as well
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


class _Product(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return torch.ops.limner.product.default(a, b)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        a, b = ctx.saved_tensors
        needs_a, needs_b = ctx.needs_input_grad
        of_a = _Product.apply(gradient, b.T) if needs_a else None
        of_b = _Product.apply(gradient.T, a.T) if needs_b else None
        return of_a, of_b
