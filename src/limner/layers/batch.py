"""Means over a batch that several processes may share, and batch norm with these means."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Process:
    """Whether this process shares its batch. A ContextVar would break the compiled graph."""

    shares_batch = False


@contextlib.contextmanager
def shared_batch() -> Iterator[None]:
    """A context in which all processes share one batch, of which each has an equal part.

    All processes must then call the same functions in the same order. Has no effect with one
    process.
    """
    before = _Process.shares_batch
    _Process.shares_batch = dist.is_available() and dist.is_initialized()
    try:
        yield
    finally:
        _Process.shares_batch = before


def batch_mean(x: Tensor) -> Tensor:
    """Mean over the first dimension, over all processes if they share the batch."""
    mean = x.mean(0)
    return _over_processes(mean) if _Process.shares_batch else mean


class BatchNorm(nn.BatchNorm1d):
    """Batch norm of [batch, features] with the statistics of the whole batch, shared or not.

    A shared batch does not update running statistics: training recomputes them before their use.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and _Process.shares_batch):
            return super().forward(input)
        x = input.to(self.weight)
        centred = x - batch_mean(x)
        scale = (batch_mean(centred.square()) + self.eps).rsqrt()
        return centred * scale * self.weight + self.bias


class _MeanOverProcesses(torch.autograd.Function):
    """Mean over all processes. It is self-adjoint: its gradient is the mean of the gradients."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _over_processes(gradient)


def _over_processes(x: Tensor) -> Tensor:
    return _MeanOverProcesses.apply(x)
