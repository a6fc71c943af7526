"""Linear layers that every step of a recurrence uses, with weight gradients added up in place.

For y_t = x_t W^T + b and d_t the gradient of y_t, the gradient of W is sum_t d_t^T x_t. Autograd
makes a matrix of each term, then adds them; a matrix product can as well add to what is there. So a
step sees W as a constant and b as rows of its own, an image each, whose gradient is d_t: as it
becomes known, last step first, its term is added. Nothing of this can be seen but the time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from limner.layers.precision import full
from limner.layers.products import add_product, product


class Linear(NamedTuple):
    """y = x W^T + b; x and b have a row for each image, or one for all."""

    weight: Float[Tensor, "out in"]
    bias: Float[Tensor, "*batch out"]

    def __call__(self, x: Float[Tensor, "#batch in"]) -> Float[Tensor, "batch out"]:
        return full(product(x, self.weight) + self.bias)


class Gathered:
    """`layers` for a stretch of steps, one after the other.

        layers = gathered.step(batch)
        ... a step with them, which also tells the inputs [batch, in] of each ...
        gathered.keep(inputs)

    The gradient of its weights is there once the backward pass has met the first step.
    """

    def __init__(self, layers: Sequence[Linear]):
        self.layers = [Linear(weight.detach(), bias.detach()) for weight, bias in layers]
        self.sums: list[Linear] = []
        self.start = _Start.apply(self.sums, *(tensor for layer in layers for tensor in layer))
        self.node: Any = None

    def step(self, batch: int) -> list[Linear]:
        """The layers of the next step."""
        biases = _Biases.apply(self.start, self, batch)
        return [Linear(weight, bias) for (weight, _), bias in zip(self.layers, biases, strict=True)]

    def keep(self, inputs: Sequence[Tensor]) -> None:
        """What went into each layer at this step, without a graph, for its backward pass."""
        self.node.inputs = inputs
        self.node = None  # no cycle: the graph is freed with its last tensor

    def add(self, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Add the terms of a step, given the gradients d_t of the layers' outputs."""
        for layer, (d, x) in enumerate(zip(gradients, inputs, strict=True)):
            d_x = d if len(x) == len(d) else d.sum(0, keepdim=True)
            d_b = d.sum_to_size(self.layers[layer].bias.shape)
            if layer == len(self.sums):
                self.sums.append(Linear(product(d_x.T, x.T), d_b.clone()))
            else:
                add_product(self.sums[layer].weight, d_x.T, x.T)
                self.sums[layer].bias.add_(d_b)


class _Start(Function):
    """Stands before all steps: its backward pass, the last, hands the sums to autograd."""

    @staticmethod
    def forward(ctx: Any, sums: list[Linear], *parameters: Tensor) -> Tensor:
        ctx.sums = sums
        return parameters[0].new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradients = [tensor for layer in ctx.sums for tensor in layer]
        ctx.sums.clear()
        return (None, *gradients)


class _Biases(Function):
    """The biases of one step, a row for each image."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, gathered: Gathered, batch: int) -> tuple[Tensor, ...]:
        ctx.gathered, gathered.node = gathered, ctx
        return tuple(layer.bias.expand(batch, -1) for layer in gathered.layers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        ctx.gathered.add(ctx.inputs, gradients)
        return gradients[0].new_zeros(()), None, None
