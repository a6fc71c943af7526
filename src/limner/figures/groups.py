"""Generation with the top groups of a hierarchy fixed.

Group 1 is nearest the image, as in `Inference.latents` of the Ladder VAE.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from limner.models import LatentVariableModel


def carried_means(model: LatentVariableModel, x: Tensor) -> list[Tensor]:
    """The mean of q(z | x) of every group [n, *shape], given the means of the groups before."""
    latents = model.infer(x, trace=True, latents="mean").latents
    assert latents is not None
    return [latent.z for latent in latents]


def from_the_top(
    model: LatentVariableModel,
    held: Sequence[Tensor],
    keep: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean images [n, C, H, W]: the top `keep` groups from `held`, the others drawn from p."""
    below = len(held) - keep
    latents = [None] * below + list(held[below:])
    return model.generate(len(held[0]), generator, trace=False, latents=latents).images


def completed_by_means(model: LatentVariableModel, held: Sequence[Tensor], keep: int) -> Tensor:
    """Like `from_the_top`, with the other groups at the mean of their prior."""
    below = len(held) - keep
    means: list[Literal["mean"]] = ["mean"] * below
    latents = [*means, *held[below:]]
    return model.generate(len(held[0]), trace=False, latents=latents).images
