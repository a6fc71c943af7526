"""What training can maximise, and the estimators of its gradient; see `limner.objectives`."""

from typing import Literal

from limner.errors import InputError

ObjectiveKind = Literal["elbo", "iwae"]
Gradient = Literal["plain", "stl", "dreg"]


def check_objective(
    kind: ObjectiveKind, num_samples: int, gradient: Gradient, free_bits: float
) -> None:
    """Raise `InputError` for a combination that `objective` does not define."""
    if num_samples < 1:
        raise InputError(f"An objective needs at least one sample; got num_samples={num_samples}.")
    if gradient == "dreg" and kind != "iwae":
        raise InputError(
            "The dreg gradient is for the iwae objective; choose iwae, or stl for the elbo."
        )
    if free_bits and (kind, gradient) != ("elbo", "plain"):
        raise InputError(
            "Free bits set a minimum for the closed-form KL; use them with the elbo objective and "
            "the plain gradient, or set free_bits to 0."
        )
