"""Memory for time: what a stretch of a computation made is computed again for its gradient."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from torch.utils.checkpoint import checkpoint

Outputs = TypeVar("Outputs")


def recomputed(function: Callable[..., Outputs], *arguments: Any) -> Outputs:
    """`function(*arguments)`, of which only arguments and results are kept for the backward pass.

    Arguments and results are tensors in nested tuples. The reentrant kind of checkpoint makes no
    graph at first: the small lasting objects of one would lie scattered between the large passing
    tensors, and the heap would grow with every step. Its backward pass is `backward()`, not
    `torch.autograd.grad`.
    """
    flat, nested = tree_flatten(arguments)
    shapes: list[TreeSpec] = []

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        outputs, shape = tree_flatten(function(*tree_unflatten(tensors, nested)))
        shapes.append(shape)
        return tuple(outputs)

    outputs = checkpoint(run, *flat, use_reentrant=True)
    return tree_unflatten(outputs, shapes[0])
