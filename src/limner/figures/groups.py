"""Generating with some latent groups held, and groups held at their prior's mean.

In a model that records canvases groups follow each other in time; in any other they form a
hierarchy whose first group is nearest the image, as `Inference.latents` of the ladder.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Normal

from limner.models import LatentVariableModel


def carried_means(model: LatentVariableModel, x: Tensor) -> list[Tensor]:
    """Of every group the mean of q(z | x), means of the groups before carried on; [n, latent]."""
    latents = model.infer(x, trace=True, latents="mean").latents
    assert latents is not None
    return [latent.z for latent in latents]


def from_the_top(
    model: LatentVariableModel,
    held: Sequence[Tensor],
    keep: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean images [n, C, H, W] with the top `keep` groups as `held`, those below from the prior."""
    below = len(held) - keep
    latents = [None] * below + list(held[below:])
    return model.generate(len(held[0]), generator, trace=False, latents=latents).images


def completed_by_means(
    model: LatentVariableModel, held: Sequence[Tensor], keep: int
) -> list[Tensor]:
    """All groups, the top `keep` as `held` and those below at the mean of their prior."""
    return _from_prior(model, held, keep, lambda p: p.loc)


def ancestral(
    model: LatentVariableModel, like: Sequence[Tensor], generator: torch.Generator | None = None
) -> list[Tensor]:
    """All groups drawn from the prior, from the top down, in the shapes of `like`."""

    def drawn(p: Normal) -> Tensor:
        noise = torch.empty_like(p.loc).normal_(generator=generator)
        return p.loc + p.scale * noise

    return _from_prior(model, like, 0, drawn)


def _from_prior(
    model: LatentVariableModel,
    held: Sequence[Tensor],
    keep: int,
    choose: Callable[[Normal], Tensor],
) -> list[Tensor]:
    """Groups below the top `keep` chosen from p(z | groups above), one after the other.

    `infer` tells p of every group, given those above; what image it is shown does not matter.
    """
    latents = list(held)
    blank = latents[0].new_zeros(len(latents[0]), *model.image_shape)
    for group in reversed(range(len(latents) - keep)):
        traced = model.infer(blank, trace=True, latents=latents).latents
        assert traced is not None
        latents[group] = choose(traced[group].p)
    return latents
