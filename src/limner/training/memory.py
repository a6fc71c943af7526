"""The best weights of a training without a run folder."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from limner.errors import Stopped
from limner.training.runs import WeightKind
from limner.training.validation import Validator


class InMemory:
    """Keeps the best weights that were validated, on the CPU, and writes nothing."""

    def __init__(self, validator: Validator):
        self.validator = validator
        self._best: dict[str, Tensor] = {}

    def keep(
        self,
        models: Mapping[WeightKind, nn.Module],
        used: WeightKind,
        epoch: int,
        best: bool,
        document: Mapping[str, Any],
    ) -> None:
        """Keep the weights that were just validated if they are the best so far."""
        if best:
            state = self.validator.model.state_dict()
            self._best = {name: value.to("cpu", copy=True) for name, value in state.items()}

    def record(self, entry: Mapping[str, Any]) -> int:
        """Nothing is written; returns 0 bytes."""
        return 0

    def save(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Nothing is written."""

    def export(self) -> None:
        """Nothing is written."""

    def best(self) -> dict[str, Tensor]:
        """The best weights; empty before the first validation."""
        return self._best

    def stopped(self, signum: int) -> Stopped:
        """The error that ends the training after a signal."""
        return Stopped("The training was stopped; the model keeps its best weights.", signum)
