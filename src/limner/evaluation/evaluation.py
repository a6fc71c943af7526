"""The result of an evaluation: values of single images, and their means with errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from limner import notebook
from limner.evaluation.estimate import Estimate
from limner.evaluation.tables import groups_rows, results_rows
from limner.layers.observation import ObservationName, bits_per_dim
from limner.models import LatentVariableModel
from limner.models.base import ImageShape

GROUPS = 8
"""Latent groups that a notebook shows."""


class Measured(NamedTuple):
    """The facts about the model that an evaluation is of."""

    kind: str
    group_names: tuple[str, ...]
    image_shape: ImageShape
    observation: ObservationName
    parameters: int
    """Number of parameters."""
    device: str
    """Type of the device of the evaluation."""

    @classmethod
    def of(cls, model: LatentVariableModel) -> "Measured":
        return cls(
            model.config.kind,
            tuple(model.group_names),
            model.image_shape,
            model.config.observation,
            model.num_parameters,
            next(model.parameters()).device.type,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Bounds on log p(x) and their parts, in nats per image, each an `Estimate`.

    `elbo`, `iw_bound` and `reconstruction`: higher is better. `bits_per_dim` is the ELBO in bits
    per dimension, lower is better; `in_bits(evaluation.iw_bound)` is the other bound.
    """

    per_image: dict[str, Tensor]
    """`elbo`, `log_likelihood`, `iw_bound` [images], `kl` [images, groups]; with `per_step`,
    `elbo_per_step` [images, steps]. On the CPU, in the order of the images."""
    active_units: Sequence[int | None]
    """Per group, the number of units with Var_x(E_q[u]) > 0.01; None for one image."""
    latent_units: list[int]
    """Per group, the number of all units."""
    num_samples: int
    """K of `iw_bound`."""
    seed: int
    seconds: float
    measured: Measured
    images: str
    """A hash of the images: evaluations with the same hash can be compared."""

    @property
    def num_images(self) -> int:
        return len(self.per_image["elbo"])

    @cached_property
    def elbo(self) -> Estimate:
        """The evidence lower bound, from one sample of z per image and the closed-form KL."""
        return Estimate(self.per_image["elbo"])

    @cached_property
    def iw_bound(self) -> Estimate:
        """The importance-weighted bound with `num_samples` samples."""
        return Estimate(self.per_image["iw_bound"])

    @cached_property
    def reconstruction(self) -> Estimate:
        """log p(x | z)."""
        return Estimate(self.per_image["log_likelihood"])

    @cached_property
    def kl(self) -> Estimate:
        """KL(q || p), summed over groups."""
        return Estimate(self.per_image["kl"].sum(1))

    @cached_property
    def kl_per_group(self) -> tuple[Estimate, ...]:
        """The KL of each latent group."""
        return tuple(Estimate(group) for group in self.per_image["kl"].unbind(1))

    @cached_property
    def elbo_per_step(self) -> tuple[Estimate, ...] | None:
        """With `per_step`, the ELBO of a recurrent model after each step."""
        steps = self.per_image.get("elbo_per_step")
        return None if steps is None else tuple(Estimate(step) for step in steps.unbind(1))

    @property
    def bits_per_dim(self) -> Estimate:
        """The ELBO in bits per dimension."""
        return self.in_bits(self.elbo)

    def in_bits(self, bound: Estimate) -> Estimate:
        """A bound in nats, such as `iw_bound`, in bits per dimension; lower is better."""
        dims = math.prod(self.measured.image_shape)
        bits = bits_per_dim(bound.per_image.double(), self.measured.observation, dims)
        return Estimate(torch.as_tensor(bits), digits=4)

    def __repr__(self) -> str:
        return (
            f"Evaluation(elbo={self.elbo}, iw_bound={self.iw_bound} (K={self.num_samples}), "
            f"kl={self.kl}, bits_per_dim={self.bits_per_dim}, {self.num_images} images)"
        )

    def figures(self) -> dict[str, Any]:
        """The numbers of `results.json`."""
        bounds = {"elbo": self.elbo, "iw_bound": self.iw_bound}
        figures: dict[str, Any] = {
            "elbo": self.elbo.summary(),
            "reconstruction": self.reconstruction.summary(),
            "kl": self.kl.summary(),
            "iw_bound": self.iw_bound.summary() | {"num_samples": self.num_samples},
            "bits_per_dim": {name: self.in_bits(each).summary() for name, each in bounds.items()},
            "kl_per_group": [group.mean for group in self.kl_per_group],
            "active_units": self.active_units,
            "latent_units": self.latent_units,
            "group_names": list(self.measured.group_names),
        }
        if self.elbo_per_step is not None:
            figures["elbo_per_step"] = [step.summary() for step in self.elbo_per_step]
        return figures

    @property
    def title(self) -> str:
        """What was evaluated, in a line."""
        images = f"{self.num_images:,} image{'' if self.num_images == 1 else 's'}"
        return f"{self.measured.kind}, {images}, seed {self.seed}"

    def _repr_html_(self) -> str:
        figures = self.figures()
        headings, groups = groups_rows(figures | {"num_images": self.num_images})
        more = len(groups) - GROUPS
        return notebook.page(
            notebook.title(self.title),
            notebook.table(("", "nats per image", "bits per dimension"), results_rows(figures)),
            notebook.table(headings, groups[:GROUPS]) if len(groups) > 1 else "",
            notebook.note(f"and {more} more groups") if more > 0 else "",
        )
