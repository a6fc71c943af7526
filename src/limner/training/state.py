"""Where a training stands, the weights that wait to be saved, and the figures of both."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import NonNegativeFloat, NonNegativeInt
from torch import Tensor, nn

from limner.training.runs import WeightKind


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
    best_epoch: float = 0.0
    metrics_bytes: NonNegativeInt = 0


class Snapshot(NamedTuple):
    """Validated weights that wait to be saved."""

    states: dict[WeightKind, dict[str, Tensor]]
    whole: WeightKind
    """The kind that was validated; the other one's batch-norm statistics are yet to be computed."""
    epoch: int
    """Whose pixels the statistics are taken over."""


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


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
