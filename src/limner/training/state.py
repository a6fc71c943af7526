"""The position of a training, and sums of its figures."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from limner.device import summing_device

MOST_WAITING = 20
"""Batches whose figures are added at once, to make fewer calls."""


@dataclass
class Counters:
    """The position of a training. With its tensors, this is all that a resume needs."""

    epoch: NonNegativeInt = 0
    index: NonNegativeInt = 0
    """Finished batches of the current epoch."""
    step: NonNegativeInt = 0
    seconds: NonNegativeFloat = 0.0
    validated_step: int = -1
    best_bound: float | None = None
    metrics_bytes: NonNegativeInt = 0
    num_steps: PositiveInt | None = None
    """Steps of a recurrent model that grows."""


class Totals:
    """Sums over the images of many batches: log-likelihood, KL of each group, count.

    Batches with figures that are not finite are left out. Batches are added in order, so the sums
    do not depend on when they are read.
    """

    def __init__(self, sums: Float[Tensor, " groups_and_two"]):
        self._sums = sums
        self._waiting: list[tuple[Tensor, Tensor]] = []

    @classmethod
    def of(cls, num_groups: int, device: torch.device) -> "Totals":
        """Sums of no batches."""
        where = summing_device(device)
        return cls(torch.zeros(2 + num_groups, dtype=torch.float64, device=where))

    def add(
        self, log_likelihood: Float[Tensor, " batch"], kl: Float[Tensor, "batch groups"]
    ) -> None:
        self._waiting.append((log_likelihood.detach(), kl.detach().sum(0)))
        if len(self._waiting) == MOST_WAITING:
            self.read()

    def read(self) -> Float[Tensor, " groups_and_two"]:
        """The sums so far."""
        if self._waiting:
            log_likelihoods, kls = zip(*self._waiting, strict=True)
            self._waiting.clear()
            sums = torch.stack([each.sum() for each in log_likelihoods])
            counts = torch.stack([each.new_full((), len(each)) for each in log_likelihoods])
            figures = torch.column_stack([sums, torch.stack(kls), counts])
            finite = figures.isfinite().all(1, keepdim=True)
            rows = torch.where(finite, figures, 0).to(self._sums.device)
            for row in rows.to(self._sums.dtype):
                self._sums += row
        return self._sums

    def forget_waiting(self) -> None:
        """Drop the batches that were added since the sums were last read."""
        self._waiting.clear()

    def clear(self) -> None:
        """Start again from no batches."""
        self.forget_waiting()
        self._sums.zero_()


def figures_of(totals: Tensor) -> dict:
    """Means over images of totals [log-likelihood, KL of each group, count]; None if not finite."""
    log_likelihood, *kl, count = totals.tolist()
    if not count or not math.isfinite(sum(totals.tolist())):
        return {"elbo": None, "reconstruction": None, "kl": None, "kl_per_group": None}
    return {
        "elbo": (log_likelihood - sum(kl)) / count,
        "reconstruction": log_likelihood / count,
        "kl": sum(kl) / count,
        "kl_per_group": [value / count for value in kl],
    }
