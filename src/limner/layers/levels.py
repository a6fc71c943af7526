"""8-bit levels x = k / 255 under a logistic distribution, and sums over images.

With location m, scale s and S the distribution function, the mass of a level is

    P(k) = S((k + 1/2) / 255) - S((k - 1/2) / 255)

The first and the last level include the tails, so that the 256 masses sum to one.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limner.device import fill_uniform

LEVELS = 256
HALF = 0.5 / (LEVELS - 1)
FLOOR = math.log(0.25 / LEVELS)
"""The smallest log scale: a quarter of a level."""
SCALE_OF_STD = math.sqrt(3) / math.pi
"""Scale of a logistic divided by its standard deviation."""


def floored(log_scale: Tensor) -> Tensor:
    """`log_scale` above `FLOOR`, smoothly."""
    return FLOOR + F.softplus(log_scale - FLOOR)


def log_mass(x: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """Log of the mass of each level in `x`; arguments broadcast. Finite in both tails."""
    precision = (-log_scale).exp()
    below, above = (x - HALF - location) * precision, (x + HALF - location) * precision
    # log(S(b) - S(a)) = log S(b) + log S(-a) + log(1 - exp(a - b)) stays finite in both tails.
    first, last = F.logsigmoid(above), F.logsigmoid(-below)
    inner = first + last + torch.log(-torch.expm1(-2 * HALF * precision))
    return torch.where(x < HALF, first, torch.where(x > 1 - HALF, last, inner))


def log_masses(location: Tensor, log_scale: Tensor) -> Float[Tensor, "*shape levels"]:
    """Logs of the masses of all levels, in the last dimension."""
    levels = torch.arange(LEVELS, dtype=location.dtype, device=location.device) / (LEVELS - 1)
    return log_mass(levels, location[..., None], log_scale[..., None])


def logistic(uniform: Tensor) -> Tensor:
    """Standard logistic noise from uniform noise in [0, 1)."""
    return torch.logit(uniform.clamp(1e-6, 1 - 1e-6))


def nearest_level(x: Tensor) -> Tensor:
    """The level in [0, 1] that is nearest to `x`."""
    return (x * (LEVELS - 1)).round().clamp(0, LEVELS - 1) / (LEVELS - 1)


def clipped_mean(location: Tensor, scale: Tensor | float) -> Tensor:
    """E[x] of x clipped to [0, 1]: the integral of 1 - S, s (softplus(m/s) - softplus((m-1)/s)).

    For scales above the floor, rounding x to a level changes it by at most 0.03 levels.
    """
    upper, lower = F.softplus(location / scale), F.softplus((location - 1) / scale)
    return (scale * (upper - lower)).clamp(0, 1)


def uniform_like(values: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform noise in [0, 1)."""
    return fill_uniform(torch.empty_like(values), generator)


def per_image(values: Tensor) -> Float[Tensor, " batch"]:
    """The sum over everything but the batch."""
    return values.flatten(1).sum(1)
