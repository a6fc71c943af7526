"""A mean over images, and how uncertain it is."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from limner.errors import InputError


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """The mean of values of single images, with its standard error over images, s / sqrt(n).

    The difference of two estimates on the same images, `a - b`, is paired image by image: its error
    is usually far smaller than that of either.
    """

    per_image: Float[Tensor, " images"]
    digits: int = 2
    """Decimal places to show."""

    @cached_property
    def mean(self) -> float:
        return self.per_image.double().mean().item()

    @cached_property
    def stderr(self) -> float | None:
        """The standard error of the mean; None for one image, of which it is unknown."""
        count = len(self.per_image)
        return (self.per_image.double().std() / count**0.5).item() if count > 1 else None

    def summary(self) -> dict[str, Any]:
        """`mean` and `stderr`, as in results.json."""
        return {"mean": self.mean, "stderr": self.stderr}

    def __sub__(self, other: "Estimate") -> "Estimate":
        if not isinstance(other, Estimate):
            return NotImplemented
        if len(self.per_image) != len(other.per_image):
            raise InputError(
                f"Estimates on {len(self.per_image)} and {len(other.per_image)} images have no "
                "paired difference; evaluate both models on the same images."
            )
        digits = max(self.digits, other.digits)
        return Estimate(self.per_image.double() - other.per_image.double(), digits)

    def __repr__(self) -> str:
        return with_error(self.summary(), self.digits)


def with_error(figure: dict[str, Any], digits: int, sign: int = 1) -> str:
    """`97.13 ± 0.42`, or `97.13 ± -` if the error is unknown; `sign` -1 negates."""
    error = figure["stderr"]
    shown = "-" if error is None else f"{error:.{digits}f}"
    return f"{sign * figure['mean']:.{digits}f} ± {shown}"
