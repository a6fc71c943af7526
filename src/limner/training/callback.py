"""What a training shows to the function that a user passes as `callback`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from limner.models import LatentVariableModel


@dataclass(frozen=True)
class TrainingState:
    """The state of a training when its callback runs.

    `train` and `validation` hold means per image in nats: "elbo", "reconstruction", "kl" and
    "kl_per_group"; with the importance-weighted objective `validation` has "iw_bound" too. A mean
    that is not finite is None.
    """

    epoch: float
    """Passes over the training images so far."""
    step: int
    seconds: float
    """Training time, over all parts of a resumed run."""
    train: Mapping[str, Any]
    """Over the batches since the last validation."""
    validation: Mapping[str, Any]
    """Of the last validation; empty before the first."""
    validated: bool
    """Whether the validation was just now; otherwise the callback runs because of `every`."""
    _weights: Callable[[], LatentVariableModel] = field(repr=False)
    _stop: Callable[[], None] = field(repr=False)

    @property
    def model(self) -> LatentVariableModel:
        """A model with the present weights, averaged if the training averages, to evaluate.

        It is a copy in evaluation mode, on the training's device; the next access overwrites it.
        """
        return self._weights()

    def stop(self) -> None:
        """End the training after this step, as if its budget were spent."""
        self._stop()


Callback = Callable[[TrainingState], object]
