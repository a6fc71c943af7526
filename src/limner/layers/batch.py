"""Means over a batch, which several processes may share, and batch norm by such means."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Process:
    """Whether this process shares its batch: an attribute, as torch.compile knows no ContextVar."""

    shares_batch = False


@contextlib.contextmanager
def shared_batch() -> Iterator[None]:
    """A context in which the batch is that of all processes, each of which has an equal part.

    They must then do the same in the same order. Changes nothing where there is one process.
    """
    before = _Process.shares_batch
    _Process.shares_batch = dist.is_available() and dist.is_initialized()
    try:
        yield
    finally:
        _Process.shares_batch = before


def batch_mean(x: Tensor) -> Tensor:
    """Mean over the first dimension, of all processes together where they share the batch."""
    mean = x.mean(0)
    return _over_processes(mean) if _Process.shares_batch else mean


class BatchNorm(nn.BatchNorm1d):
    """Batch norm of [batch, features] by the statistics of the whole batch, shared or not.

    No running statistics are kept of a shared one: training recomputes them before they are used.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and _Process.shares_batch):
            return super().forward(input)
        x = input.to(self.weight)
        centred = x - batch_mean(x)
        scale = (batch_mean(centred.square()) + self.eps).rsqrt()
        return centred * scale * self.weight + self.bias


class _MeanOverProcesses(torch.autograd.Function):
    """Its own adjoint: the gradient, too, is the mean over all processes."""

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
