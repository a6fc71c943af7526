"""Active units: the latent variables that carry information about the image (Burda et al. 2016).

Unit u is active if Var_x(E_q[u]), the variance over images of its posterior mean, exceeds 0.01. In
a hierarchy, q of a group depends on earlier groups. These are sampled, and the mean is averaged
over `NUM_DRAWS` draws.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limner.device import summing_device
from limner.models import LatentVariableModel
from limner.objectives import rows_that_fit, sample_sources

NUM_DRAWS = 10
THRESHOLD = 0.01


@torch.no_grad()
def posterior_means(
    model: LatentVariableModel,
    x: Float[Tensor, "batch channels height width"],
    generator: torch.Generator | None = None,
) -> list[Float[Tensor, "batch *shape"]]:
    """E_q[z | x] of each group, averaged over `NUM_DRAWS` draws of the earlier groups.

    With one group the result is exact.
    """
    draws = 1 if model.num_groups == 1 else NUM_DRAWS
    chunk_size = max(1, rows_that_fit(model, trace=True) // len(x))
    totals: list[Tensor] = []
    for sources in sample_sources(draws, chunk_size, x.device, generator):
        inference = model.infer(x, sources, trace=True)
        for group, latent in enumerate(inference.latents or []):
            total = latent.q.loc.unflatten(0, (len(sources), -1)).sum(0)
            if group < len(totals):
                totals[group] += total
            else:
                totals.append(total)
    return [total / draws for total in totals]


def unit_sums(
    model: LatentVariableModel, x: Tensor, generator: torch.Generator | None = None
) -> Float[Tensor, "2 units"]:
    """Sums over images of the posterior mean of every unit and of its square, in float64.

    The sums of several batches can be added.
    """
    groups = posterior_means(model, x, generator)
    means = torch.cat([group.flatten(1) for group in groups], dim=1)
    means = means.to(summing_device(means.device)).double()
    return torch.stack([means.sum(0), means.square().sum(0)])


def count_active(
    sums: Float[Tensor, "2 units"], num_images: int, model: LatentVariableModel
) -> tuple[list[int | None], list[int]]:
    """Active units and all units per group, from `unit_sums` of `num_images` images.

    One image has no variance, so its active units are unknown, None.
    """
    sizes = group_sizes(model)
    if num_images == 1:
        return [None] * len(sizes), sizes
    mean, mean_square = sums / num_images
    variance = (mean_square - mean.square()) * num_images / (num_images - 1)
    return [int((part > THRESHOLD).sum()) for part in variance.split(sizes)], sizes


def group_sizes(model: LatentVariableModel) -> list[int]:
    """The number of latent variables of each group."""
    return [math.prod(shape) for shape in model.latent_shapes]
