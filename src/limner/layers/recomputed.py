"""Recomputation: the backward pass repeats part of the forward pass instead of storing it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import Function
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from torch.utils.checkpoint import get_device_states, set_device_states

from limner.layers.precision import autocasts

Outputs = TypeVar("Outputs")


def recomputed(function: Callable[..., Outputs], *arguments: Any) -> Outputs:
    """`function(*arguments)`, which stores only arguments and results for the backward pass.

    Arguments and results are tensors in nested tuples and mappings. Every tensor that needs a
    gradient must be among the arguments. Derivatives of any order are supported, unlike in torch's
    reentrant checkpoint. torch's other checkpoint builds a graph in the forward pass: its small
    long-lived objects are allocated between large temporary tensors, and the heap grows with every
    step.
    """
    flat, nested = tree_flatten(arguments)
    shapes: list[TreeSpec] = []

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        outputs, shape = tree_flatten(function(*tree_unflatten(tensors, nested)))
        shapes[:] = [shape]
        return tuple(outputs)

    outputs: Any = _Recomputed.apply(run, *flat)
    return tree_unflatten(list(outputs), shapes[0])


class _Recomputed(Function):
    @staticmethod
    def forward(ctx: Any, run: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> Any:
        ctx.run = run
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        device = tensors[0].device.type
        ctx.autocast = (device, torch.get_autocast_dtype(device)) if autocasts(device) else None
        ctx.random_state = torch.get_rng_state(), *get_device_states(*tensors)
        return run(*tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        tensors, needs = ctx.saved_tensors, ctx.needs_input_grad[1:]
        again = torch.is_grad_enabled()
        if not again:
            tensors = [t.detach().requires_grad_(n) for t, n in zip(tensors, needs, strict=True)]
        wanted = [t for t, need in zip(tensors, needs, strict=True) if need]
        with torch.enable_grad(), _autocast(ctx.autocast), _random_state(*ctx.random_state):
            outputs = ctx.run(*tensors)
        pairs = [
            (output, gradient)
            for output, gradient in zip(outputs, gradients, strict=True)
            if gradient is not None and output.requires_grad
        ]
        found = torch.autograd.grad(
            [output for output, _ in pairs],
            wanted,
            [gradient for _, gradient in pairs],
            create_graph=again,
            allow_unused=True,
        )
        remaining = iter(found)
        return None, *(next(remaining) if need else None for need in needs)


@contextmanager
def _random_state(cpu: Tensor, devices: list[int], states: list[Tensor]) -> Iterator[None]:
    """The global random state of the forward pass, for this region alone."""
    with torch.random.fork_rng(devices):
        torch.set_rng_state(cpu)
        set_device_states(devices, states)
        yield


def _autocast(kind: tuple[str, torch.dtype] | None) -> torch.autocast:
    """The autocast of the forward pass, which is not active in a backward pass."""
    return torch.autocast("cpu", enabled=False) if kind is None else torch.autocast(*kind)
