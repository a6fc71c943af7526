"""Observation models p(x | canvas): the distribution of pixels given the final canvas.

A canvas is [batch, maps(channels), height, width]. Each class holds one batch of distributions,
like torch.distributions, and sums over channels and pixels: `log_prob` is in nats per image. Its
`drawing` is a cheap picture of a canvas in [0, 1], which recurrent models compare with x.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limner.device import fill_normal
from limner.layers.levels import (
    LEVELS,
    SCALE_OF_STD,
    floored,
    log_mass,
    log_masses,
    logistic,
    nearest_level,
    per_image,
    uniform_like,
)
from limner.layers.logistic_mixture import DiscretizedLogisticMixture
from limner.layers.names import ObservationName
from limner.layers.precision import full

Images = Float[Tensor, "batch channels height width"]


def _logit_of_mean(images: Tensor) -> Tensor:
    return torch.logit(images.mean(0).clamp(0.01, 0.99))


class Bernoulli:
    """Binary pixels, p(x = 1) = sigmoid(canvas)."""

    bits_gained: ClassVar[float] = 0.0

    def __init__(self, canvas: Tensor):
        self.logits = full(canvas)

    @staticmethod
    def maps(channels: int) -> int:
        """A logit per channel."""
        return channels

    @staticmethod
    def drawing(canvas: Tensor, channels: int) -> Images:
        """The mean."""
        return torch.sigmoid(canvas[:, :channels])

    @staticmethod
    def initial_canvas(images: Images) -> Float[Tensor, "maps height width"]:
        """The logit of the clipped mean image."""
        return _logit_of_mean(images)

    @property
    def mean(self) -> Images:
        return torch.sigmoid(self.logits)

    def log_prob(self, x: Images) -> Float[Tensor, " batch"]:
        terms = F.binary_cross_entropy_with_logits(self.logits, x, reduction="none")
        return -per_image(terms)

    def log_masses(
        self, channel: int, before: Sequence[Tensor]
    ) -> Float[Tensor, "batch height width levels"]:
        """log P(0) and log P(1) in a channel."""
        logits = self.logits[:, channel]
        return torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], -1)

    def sample(self, generator: torch.Generator | None = None) -> Images:
        return (uniform_like(self.logits, generator) < self.mean).to(self.logits.dtype)


class _LocationScale:
    """Two maps per channel: sigmoid of the first is the location, the second the log scale.

    The maps of all locations come first. The floor of the scale is a quarter of a level.
    """

    scale_of_std: ClassVar[float] = 1.0
    """Scale of the distribution divided by its standard deviation."""

    def __init__(self, canvas: Tensor):
        location, log_scale = full(canvas).chunk(2, dim=1)
        self.location = torch.sigmoid(location)
        self.log_scale = floored(log_scale)

    @staticmethod
    def maps(channels: int) -> int:
        """A location and a log scale per channel."""
        return 2 * channels

    @staticmethod
    def drawing(canvas: Tensor, channels: int) -> Images:
        """The location."""
        return torch.sigmoid(canvas[:, :channels])

    @classmethod
    def initial_canvas(cls, images: Images) -> Float[Tensor, "maps height width"]:
        """The logit of the clipped mean image, then the log of each pixel's scale."""
        spread = cls.scale_of_std * images.std(0, correction=0).clamp_min(0.05)
        return torch.cat([_logit_of_mean(images), spread.log()])


class Gaussian(_LocationScale):
    """x ~ N(mu, sigma^2) on dequantized images (level + u) / 256, a density on [0, 1]."""

    bits_gained: ClassVar[float] = math.log2(LEVELS)

    @property
    def mean(self) -> Images:
        return self.location

    def log_prob(self, x: Images) -> Float[Tensor, " batch"]:
        distance = (x - self.location) * (-self.log_scale).exp()
        terms = -0.5 * (distance.square() + math.log(2 * math.pi)) - self.log_scale
        return per_image(terms)

    def sample(self, generator: torch.Generator | None = None) -> Images:
        """A draw, clipped to [0, 1]."""
        noise = fill_normal(torch.empty_like(self.location), generator)
        return (self.location + self.log_scale.exp() * noise).clamp(0, 1)


class DiscretizedLogistic(_LocationScale):
    """Exact mass of the 8-bit level x = k / 255 under a logistic (Kingma et al. 2016)."""

    scale_of_std: ClassVar[float] = SCALE_OF_STD
    bits_gained: ClassVar[float] = 0.0

    @property
    def mean(self) -> Images:
        """E[x] = 1/255 sum over k = 0..254 of P(level > k), exactly."""
        total = torch.zeros_like(self.location)
        for k in range(LEVELS - 1):
            edge = (k + 0.5) / (LEVELS - 1)
            total += torch.sigmoid((self.location - edge) * (-self.log_scale).exp())
        return total / (LEVELS - 1)

    def log_prob(self, x: Images) -> Float[Tensor, " batch"]:
        return per_image(log_mass(x, self.location, self.log_scale))

    def log_masses(
        self, channel: int, before: Sequence[Tensor]
    ) -> Float[Tensor, "batch height width levels"]:
        """Logs of the masses of the 256 levels in a channel."""
        return log_masses(self.location[:, channel], self.log_scale[:, channel])

    def sample(self, generator: torch.Generator | None = None) -> Images:
        noise = logistic(uniform_like(self.location, generator))
        return nearest_level(self.location + self.log_scale.exp() * noise)


Observation = Bernoulli | Gaussian | DiscretizedLogistic | DiscretizedLogisticMixture

OBSERVATIONS: dict[ObservationName, type[Observation]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "discretized_logistic": DiscretizedLogistic,
    "discretized_logistic_mixture": DiscretizedLogisticMixture,
}


def bits_per_dim(nats: Tensor | float, observation: ObservationName, dims: int) -> Tensor | float:
    """Bits per dimension of a log-likelihood or bound `nats` over `dims` = C H W values.

    -nats / (dims ln 2), plus 8 bits for a density on [0, 1]: its mass per 8-bit level is
    p(x) / 256.
    """
    return OBSERVATIONS[observation].bits_gained - nats / (dims * math.log(2))
