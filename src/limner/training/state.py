"""Where a training stands, the weights that wait to be saved, and the figures of both."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, NonNegativeInt
from torch import Tensor, nn

from limner.training.runs import WeightKind

MOST_WAITING = 20
"""Batches whose figures are added up at a time: a few calls for all of them."""


@dataclass
class Counters:
    """Where a training stands; with the tensors of `checkpoint.pack`, all that a resume needs."""

    epoch: NonNegativeInt = 0
    index: NonNegativeInt = 0
    """Batches of the present epoch that are done."""
    step: NonNegativeInt = 0
    seconds: NonNegativeFloat = 0.0
    validated_step: int = -1
    best_bound: float | None = None
    metrics_bytes: NonNegativeInt = 0


class Snapshot(NamedTuple):
    """Validated weights that wait to be saved."""

    states: dict[WeightKind, dict[str, Tensor]]
    whole: WeightKind
    """The kind that was validated; the other one's batch-norm statistics are yet to be computed."""
    epoch: int
    """Whose pixels the statistics are taken over."""
    about: dict[str, float | None]
    """What the file of the weights tells of them."""


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


class Totals:
    """Sums over the images of many batches: log-likelihood, KL of each group, count.

    A batch whose figures are not finite is left out. Those of some batches wait to be added, one
    after the other: the sums do not depend on when they are read.
    """

    def __init__(self, sums: Float[Tensor, " groups_and_two"]):
        self._sums = sums
        self._waiting: list[tuple[Tensor, Tensor]] = []

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
            counts = sums.new_tensor([len(each) for each in log_likelihoods])
            figures = torch.column_stack([sums, torch.stack(kls), counts])
            finite = figures.isfinite().all(1, keepdim=True)
            for row in torch.where(finite, figures, 0).to(self._sums):
                self._sums += row
        return self._sums


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
