"""Linear layers that every step of a recurrence uses, with weight gradients added up in place.

For y_t = x_t W^T + b and d_t the gradient of y_t, the gradient of W is sum_t d_t^T x_t. Autograd
makes a matrix of each term, then adds them; a matrix product can as well add to what is there. So a
step sees W as a constant and b as rows of its own, an image each, whose gradient is d_t: as it
becomes known, last step first, its term is added, several steps at a time. Nothing of this can be
seen but the time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from limner.layers.compiling import compiled
from limner.layers.precision import full
from limner.layers.products import add_outer, product

ROWS = 512
"""So many images, of one step or several, make one product: more would leave the caches."""


class Linear(NamedTuple):
    """y = x W^T + b; x and b have a row for each image, or one for all."""

    weight: Float[Tensor, "out in"]
    bias: Float[Tensor, "*batch out"]

    def __call__(self, x: Float[Tensor, "#batch in"]) -> Float[Tensor, "batch out"]:
        return full(product(x, self.weight) + self.bias)


class Gathered:
    """`layers` for a stretch of steps, one after the other.

        layers = gathered.step(batch)
        ... a step with them, which also tells the input [batch, in] of each ...
        gathered.keep(*inputs)

    The gradient of its weights is there once the backward pass has met the first step. With
    `compiling` what happens again and again in that pass is compiled.
    """

    def __init__(self, layers: Sequence[Linear], compiling: bool = False):
        self.layers = [Linear(weight.detach(), bias.detach()) for weight, bias in layers]
        self.sums = _Sums([len(bias.shape) == 2 for _, bias in layers], compiling)
        self.start = _Start.apply(self.sums, *(tensor for layer in layers for tensor in layer))
        self.node: Any = None

    def step(self, batch: int) -> list[Linear]:
        """The layers of the next step."""
        biases = _Biases.apply(self.start, self, batch)
        return [Linear(weight, bias) for (weight, _), bias in zip(self.layers, biases, strict=True)]

    def keep(self, *inputs: Tensor) -> None:
        """What went into each layer at this step, for its backward pass."""
        self.node.inputs = [each.detach() for each in inputs]
        self.node = None  # no cycle: the graph is freed with its last tensor


class _Sums:
    """The gradients of all layers, sum_t d_t^T x_t and sum_t d_t, to which steps are added.

    Several steps make one product, for a product reads and writes all of sum_t d_t^T x_t.
    """

    def __init__(self, per_image: Sequence[bool], compiling: bool):
        self.per_image = per_image
        """Whether a layer's bias has a row for each image."""
        self.compiling = compiling
        self.sums: list[Linear] = []
        self.held: list[tuple[Sequence[Tensor], Sequence[Tensor]]] = []

    def add(self, gradients: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        """A step: d_t [batch, out] and x_t [batch or 1, in] of each layer."""
        self.held.append((gradients, inputs))
        if self._enough():
            self._add_held()

    def take(self) -> list[Tensor]:
        """The sums over all steps, weight and bias of each layer in turn; they begin anew."""
        if self.held:
            self._add_held()
        taken = [tensor for layer in self.sums for tensor in layer]
        self.sums = []
        return taken

    def _enough(self) -> bool:
        """Whether the steps held make one product."""
        return len(self.held) * len(self.held[0][0][0]) >= ROWS

    def _add_held(self) -> None:
        gradients, inputs = zip(*self.held, strict=True)
        enough, all_rows = self._enough(), all(len(x) > 1 for xs in inputs for x in xs)
        again = bool(self.sums) and enough and all_rows  # what happens once is not worth compiling
        self.held.clear()
        add = compiled(_added, "cpu") if self.compiling and again else _added
        self.sums = add(self.sums, gradients, inputs, self.per_image)


def _added(
    sums: Sequence[Linear],
    gradients: Sequence[Sequence[Tensor]],
    inputs: Sequence[Sequence[Tensor]],
    per_image: Sequence[bool],
) -> list[Linear]:
    """The sums, if there are any, and the terms of several steps; weights are changed in place."""
    added = []
    for layer, has_rows in enumerate(per_image):
        ds, xs = ([step[layer] for step in steps] for steps in (gradients, inputs))
        weight, bias = sums[layer] if sums else (None, None)
        rows = [d if len(x) > 1 else d.sum(0, keepdim=True) for d, x in zip(ds, xs, strict=True)]
        term = sum(ds[1:], ds[0])
        term = term if has_rows else term.sum(0)
        added.append(Linear(add_outer(weight, rows, xs), term if bias is None else bias + term))
    return added


class _Start(Function):
    """Stands before all steps: its backward pass, the last, hands the sums to autograd."""

    @staticmethod
    def forward(ctx: Any, sums: _Sums, *parameters: Tensor) -> Tensor:
        ctx.sums = sums
        return parameters[0].new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return (None, *ctx.sums.take())


class _Biases(Function):
    """The biases of one step, a row for each image."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, gathered: Gathered, batch: int) -> tuple[Tensor, ...]:
        ctx.gathered, gathered.node = gathered, ctx
        return tuple(layer.bias.expand(batch, -1) for layer in gathered.layers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        ctx.gathered.sums.add(gradients, ctx.inputs)
        return gradients[0].new_zeros(()), None, None
