"""The linear layer of every model."""

from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from limner.cpu.products import by_onednn, differentiable_product
from limner.layers.precision import full


class LayerStep(Protocol):
    """Computes a layer at one step of an unrolled recurrence; None if the layer must."""

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor | None: ...


class Linear(nn.Linear):
    """y = x W^T + b: x [*, in], y [*, out]. In a copy, b may have a row per image."""

    step: LayerStep | None = None
    """Set in an unrolled copy, whose weight gradients are summed over steps."""

    def forward(self, input: Tensor) -> Tensor:
        y = None if self.step is None else self.step(input, self.weight)
        return affine(input, self.weight, self.bias) if y is None else full(y)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b for b [out] or [batch, out]."""
    if by_onednn(x, weight):
        product: Any = differentiable_product(x, weight)
        return product if bias is None else product + bias
    if bias is None or bias.dim() == 1:
        return F.linear(x, weight, bias)
    return full(F.linear(x, weight)) + bias
