"""Walks through all latent groups at once, between two images or two draws from the prior.

The coordinates of a walk are the noise e_t = (z_t - mu_p) / sigma_p. In these the prior of every
group is N(0, I), even if it is learned and depends on other groups. The end points decode exactly
to the two reconstructions or the two draws.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from limner.device import fill_normal
from limner.evaluation.units import group_sizes
from limner.models import LatentVariableModel

Walk = Literal["line", "sphere"]
Noise = Float[Tensor, "n dims"]
"""The noise of all groups side by side."""


def walk(
    start: Float[Tensor, " dims"], end: Float[Tensor, " dims"], frames: int, kind: Walk
) -> Noise:
    """`frames` points from `start` to `end`, both included.

    line:   (1 - s) a + s b
    sphere: (sin((1 - s) w) a + sin(s w) b) / sin w, w the angle between a and b (Shoemake 1985,
            White 2016), which keeps the length if both have the same; the line if w is 0 or pi.
    """
    s = torch.linspace(0, 1, frames, dtype=start.dtype, device=start.device)[:, None]
    return (1 - s) * start + s * end if kind == "line" else spherical(start, end, s)


def spherical(
    a: Float[Tensor, "*n dims"], b: Float[Tensor, "*n dims"], share: float | Tensor
) -> Float[Tensor, "*n dims"]:
    """The point a fraction `share` of the way from a to b on the sphere, as in `walk`."""
    angle = torch.arccos(torch.cosine_similarity(a, b, dim=-1).clamp(-1, 1))[..., None]
    straight = angle.sin().abs() < 1e-4
    sine = torch.where(straight, 1.0, angle.sin())
    from_a = torch.where(straight, 1 - share, ((1 - share) * angle).sin() / sine)
    to_b = torch.where(straight, share, (share * angle).sin() / sine)
    return from_a * a + to_b * b


@torch.no_grad()
def noise_of_images(
    model: LatentVariableModel, x: Float[Tensor, "n channels height width"]
) -> Noise:
    """The noise for which z is the posterior mean of each image."""
    latents = model.infer(x, trace=True, latents="mean").latents or []
    return torch.cat([((z - p.loc) / p.scale).flatten(1) for _, p, z in latents], dim=1)


def noise_of_prior(model: LatentVariableModel, n: int, generator: torch.Generator) -> Noise:
    """The noise of `n` draws from the prior."""
    like = next(model.parameters())
    return fill_normal(like.new_empty(n, sum(group_sizes(model))), generator)


@torch.no_grad()
def decode_noise(
    model: LatentVariableModel, noise: Noise
) -> Float[Tensor, "n channels height width"]:
    """Mean images for given noise: z_t = mu_p + sigma_p e_t in every group."""
    parts = zip(noise.split(group_sizes(model), dim=1), model.latent_shapes, strict=True)
    given = [part.unflatten(1, shape) for part, shape in parts]
    return model.generate(len(noise), trace=False, noise=given).images
