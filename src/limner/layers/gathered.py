"""Weight gradients of the linear layers of a recurrence, summed over its steps in place.

For y_t = x_t W^T + b and d_t the gradient of y_t, the gradient of W is sum_t d_t^T x_t. Autograd
forms one matrix per step and adds them; a matrix product can instead add to an existing sum. A step
therefore uses W without a gradient, and b as one row per image, whose gradient is d_t. The terms
d_t^T x_t of several steps at a time, last steps first, are added to the gradient of W. Results
agree with autograd's to rounding; only speed differs.

With `create_graph=True` each step forms its own term, and autograd forms higher derivatives.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import Function

from limner.cpu import products
from limner.layers.compiling import compiled
from limner.layers.linear import Linear

ROWS = 512
"""Rows of one product: images times steps. More would not fit in the caches."""


class Gathered:
    """The `Linear` layers of `cell` over `steps` steps on `batch` images.

        gathered = Gathered(copy, batch, steps)
        for t in ...:
            gathered.begin()
            ... one step with the copy, which calls each layer once ...
            gathered.end()

    `cell` must be a copy that nothing else uses. If a layer is called again in the same step, or
    with an input that is not [batch or 1, in], autograd forms the gradient of that call. With
    `compiling`, the repeated part of the backward pass is compiled.
    """

    def __init__(self, cell: nn.Module, batch: int, steps: int, compiling: bool = False):
        layers = [module for module in cell.modules() if _plain(module)]
        self.batch, self.compiling = batch, compiling
        self.steps = [_LayerStep(layer) for layer in layers]
        self.at_once = math.ceil(ROWS / max(1, batch))
        self.left = steps
        self.tensors = [t for layer in layers for t in (layer.weight, layer.bias) if t is not None]
        self.rows: list[Sequence[Tensor]] = []

    def begin(self) -> None:
        """Call before each step."""
        if not self.rows:
            self._next_block()
        for step, rows in zip(self.steps, self.rows.pop(0), strict=True):
            step.rows, step.seen = rows, None

    def end(self) -> None:
        """Call after each step."""
        self.block.inputs.append([step.seen for step in self.steps])

    def _next_block(self) -> None:
        """Prepare biases for the next block of steps. Only the first block may be shorter."""
        count = self.left % self.at_once or self.at_once
        self.left -= count
        self.block = _Block(self.steps, self.batch, count, self.compiling)
        found = _Biases.apply(self.block, *self.tensors)
        self.tensors, rows = list(found[: len(self.tensors)]), found[len(self.tensors) :]
        width = len(self.steps)
        self.rows = [rows[k * width : (k + 1) * width] for k in range(count)]


def _plain(module: nn.Module) -> TypeGuard[Linear]:
    """Whether a layer uses its own parameters as they are: none that a hook or a property makes."""
    own = isinstance(module, Linear) and module._parameters.get("weight") is not None
    return own and "bias" in module._parameters and not module._forward_pre_hooks


class _LayerStep:
    """A layer at the current step: its bias as rows, and its input."""

    def __init__(self, layer: Linear):
        self.weight = layer.weight.detach()
        self.bias = self.weight.new_zeros(1) if layer.bias is None else layer.bias.detach()
        self.has_bias = layer.bias is not None
        self.per_image = self.bias.dim() == 2
        self.rows: Tensor = self.bias
        self.seen: Tensor | None = None
        layer.step = self

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor | None:
        if self.seen is not None or x.dim() != 2:
            return None
        if x.shape[0] != self.rows.shape[0] and not (self.per_image and x.shape[0] == 1):
            return None
        self.seen = x.detach()
        if torch.compiler.is_compiling():
            return products.differentiable_product(x, self.weight) + self.rows
        return _Affine.apply(x, weight, self.rows)


class _Affine(Function):
    """x W^T + rows. `_Biases` forms the gradient of W, unless it will be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return products.affine(x, weight, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        again = torch.is_grad_enabled()
        product = products.differentiable_product if again else products.product
        alike = gradient.shape[0] == x.shape[0]
        d = gradient if alike else gradient.sum(0, keepdim=True)
        of_x = product(d, weight.T) if ctx.needs_input_grad[0] else None
        return of_x, product(d.T, x.T) if again else None, gradient


class _Block:
    """A few consecutive steps, with the input of each layer at each step."""

    def __init__(self, steps: Sequence[_LayerStep], batch: int, count: int, compiling: bool):
        self.biases = [step.bias.expand(batch, len(step.weight)) for step in steps]
        self.per_image = [step.per_image for step in steps]
        self.has_bias = [step.has_bias for step in steps]
        self.count, self.compiling = count, compiling
        self.full = count * batch >= ROWS
        self.inputs: list[list[Tensor | None]] = []


class _Sum(NamedTuple):
    """Gradients of one layer's weight and bias; None before the first term."""

    weight: Tensor | None
    bias: Tensor | None


class _Biases(Function):
    """Weights and biases for the next block, then rows of biases for each step."""

    @staticmethod
    def forward(ctx: Any, block: _Block, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.block, ctx.passed = block, len(tensors)
        ctx.set_materialize_grads(False)
        rows = [bias.view_as(bias) for _ in range(block.count) for bias in block.biases]
        return (*(tensor.view_as(tensor) for tensor in tensors), *rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        block: _Block = ctx.block
        passed, width = iter(gradients[: ctx.passed]), len(block.biases)
        sums = [_Sum(next(passed), next(passed) if has else None) for has in block.has_bias]
        rows = gradients[ctx.passed :]
        terms = [_terms(block.inputs, rows[layer::width], layer) for layer in range(width)]
        if torch.is_grad_enabled():
            added = [_with_biases(*each) for each in zip(sums, terms, block.per_image, strict=True)]
        else:
            repeated = block.compiling and block.full and _alike(sums, terms, block.count)
            add = compiled(_added, "cpu") if repeated else _added
            added = add(sums, terms, block.per_image)
        pairs = zip(added, block.has_bias, strict=True)
        return None, *(each for total, has in pairs for each in (total if has else total[:1]))


class _Terms(NamedTuple):
    """One layer at several steps: gradients d_t [batch, out], inputs x_t [batch or 1, in]."""

    ds: list[Tensor]
    xs: list[Tensor]


def _terms(
    inputs: Sequence[Sequence[Tensor | None]], gradients: Sequence[Tensor | None], layer: int
) -> _Terms:
    pairs = [
        (d, step[layer])
        for d, step in zip(gradients, inputs, strict=True)
        if d is not None and step[layer] is not None
    ]
    return _Terms([d for d, _ in pairs], [x for _, x in pairs if x is not None])


def _alike(sums: Sequence[_Sum], terms: Sequence[_Terms], count: int) -> bool:
    """Whether every layer that was called has a sum, and terms for all steps and images."""
    called = [(total, term) for total, term in zip(sums, terms, strict=True) if term.ds]
    return all(
        total.weight is not None and len(term.ds) == count and all(len(x) > 1 for x in term.xs)
        for total, term in called
    )


def _with_biases(total: _Sum, terms: _Terms, per_image: bool) -> _Sum:
    """The sum with the bias gradient added, differentiable."""
    if not terms.ds:
        return total
    term = _sum_of_biases(terms, per_image)
    return _Sum(total.weight, term if total.bias is None else total.bias + term)


def _added(sums: Sequence[_Sum], terms: Sequence[_Terms], per_image: Sequence[bool]) -> list[_Sum]:
    """The sums with the terms of several steps added; weight sums change in place."""
    added = []
    for total, (ds, xs), has_rows in zip(sums, terms, per_image, strict=True):
        if not ds:
            added.append(total)
            continue
        pairs = zip(ds, xs, strict=True)
        rows = [d if len(d) == len(x) else d.sum(0, keepdim=True) for d, x in pairs]
        term = _sum_of_biases(_Terms(ds, xs), has_rows)
        bias = term if total.bias is None else total.bias + term
        added.append(_Sum(products.add_outer(total.weight, rows, xs), bias))
    return added


def _sum_of_biases(terms: _Terms, per_image: bool) -> Tensor:
    term = sum(terms.ds[1:], terms.ds[0])
    return term if per_image else term.sum(0)
