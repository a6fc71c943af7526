"""Recomputation: the backward pass repeats part of the forward pass instead of storing it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import Function
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from torch.utils.checkpoint import get_device_states, set_device_states

from limner.layers.precision import autocasts

Outputs = TypeVar("Outputs")


def recomputed(function: Callable[..., Outputs], *arguments: Any) -> Outputs:
    """`function(*arguments)`, which stores only arguments and results for the backward pass.

    Arguments and results are tensors in nested tuples and mappings; every tensor that needs a
    gradient must be among the arguments. Derivatives of any order are supported, unlike in torch's
    reentrant checkpoint. If `function` used the global random state, it is restored to repeat it.

    torch's other checkpoint builds a graph in the forward pass: its small long-lived objects are
    allocated between large temporary tensors, and the heap grows with every step.
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
        ctx.autocast = _Autocast.now(tensors[0].device.type)
        before = _RandomState.now(tensors)
        outputs = run(*tensors)
        ctx.random_state = None if before == _RandomState.now(tensors) else before
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        needs, again = ctx.needs_input_grad[1:], torch.is_grad_enabled()
        tensors = [
            _separate(tensor, again) if need else tensor
            for tensor, need in zip(ctx.saved_tensors, needs, strict=True)
        ]
        wanted = [tensor for tensor, need in zip(tensors, needs, strict=True) if need]
        random_state = nullcontext() if ctx.random_state is None else ctx.random_state.restored()
        with torch.enable_grad(), ctx.autocast.restored(), random_state:
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


def _separate(tensor: Tensor, again: bool) -> Tensor:
    """`tensor` as an input of the repeated part, with a gradient of its own.

    To be differentiated again it stays connected to what it was made of, but as a tensor of its
    own: a gradient that reaches it by way of another input must not count twice. Otherwise leaves
    are used as they are, so that a module that the part reaches in another way counts too, unless
    they have hooks, which would run twice.
    """
    if again:
        return tensor.view_as(tensor)
    hooked = bool(getattr(tensor, "_backward_hooks", None))
    return tensor if tensor.is_leaf and not hooked else tensor.detach().requires_grad_()


class _Autocast(NamedTuple):
    """The autocast of a forward pass, which is not that of its backward pass."""

    device: str
    dtype: torch.dtype | None
    """None if there was none."""

    @classmethod
    def now(cls, device: str) -> "_Autocast":
        return cls(device, torch.get_autocast_dtype(device) if autocasts(device) else None)

    def restored(self) -> AbstractContextManager[object]:
        if self.device == "meta":
            return nullcontext()
        return torch.autocast(self.device, self.dtype, enabled=self.dtype is not None)


class _RandomState(NamedTuple):
    """The global random states of the CPU and of the devices of some tensors."""

    cpu: bytes
    devices: tuple[int, ...]
    states: tuple[bytes, ...]

    @classmethod
    def now(cls, tensors: Sequence[Tensor]) -> "_RandomState":
        devices, states = get_device_states(*tensors) if _has_state(tensors) else ([], [])
        return cls(_bytes(torch.get_rng_state()), tuple(devices), tuple(map(_bytes, states)))

    @contextmanager
    def restored(self) -> Iterator[None]:
        """A context with this state; the present one comes back at its end."""
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(_tensor(self.cpu))
            set_device_states(list(self.devices), list(map(_tensor, self.states)))
            yield


def _has_state(tensors: Sequence[Tensor]) -> bool:
    """Whether noise comes from the device, and no CUDA graph is captured, which hides its state."""
    return tensors[0].is_cuda and not torch.cuda.is_current_stream_capturing()


def _bytes(state: Tensor) -> bytes:
    return state.numpy().tobytes()


def _tensor(state: bytes) -> Tensor:
    return torch.frombuffer(bytearray(state), dtype=torch.uint8)
