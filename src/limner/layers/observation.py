"""Observation models p(x | canvas): the distribution of pixels given the final canvas.

A canvas is [batch, maps(channels), height, width]. Each class holds one batch of distributions,
like torch.distributions, and sums over channels and pixels: `log_prob` is in nats per image. Its
`drawing` is a cheap picture of a canvas in [0, 1], which recurrent models compare with x.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limner.device import fill_normal, fill_uniform
from limner.layers.names import ObservationName
from limner.layers.precision import full

Images = Float[Tensor, "batch channels height width"]
LEVELS = 256


def _logit_of_mean(images: Tensor) -> Tensor:
    return torch.logit(images.mean(0).clamp(0.01, 0.99))


def _per_image(values: Tensor) -> Float[Tensor, " batch"]:
    return values.flatten(1).sum(1)


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
        return -_per_image(terms)

    def sample(self, generator: torch.Generator | None = None) -> Images:
        return (_uniform_like(self.logits, generator) < self.mean).to(self.logits.dtype)


class _LocationScale:
    """Two maps per channel: sigmoid of the first is the location, the second the log scale.

    The maps of all locations come first. The log scale has a floor.
    """

    scale_of_std: ClassVar[float] = 1.0
    """Scale of the distribution divided by its standard deviation."""
    floor: ClassVar[float]

    def __init__(self, canvas: Tensor):
        location, log_scale = full(canvas).chunk(2, dim=1)
        self.location = torch.sigmoid(location)
        self.log_scale = self.floor + F.softplus(log_scale - self.floor)

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
    """x ~ N(mu, sigma^2) on dequantized images (level + u) / 256, a density on [0, 1].

    The floor of sigma is a quarter of a level.
    """

    bits_gained: ClassVar[float] = math.log2(LEVELS)
    floor: ClassVar[float] = math.log(0.25 / LEVELS)

    @property
    def mean(self) -> Images:
        return self.location

    def log_prob(self, x: Images) -> Float[Tensor, " batch"]:
        distance = (x - self.location) * (-self.log_scale).exp()
        terms = -0.5 * (distance.square() + math.log(2 * math.pi)) - self.log_scale
        return _per_image(terms)

    def sample(self, generator: torch.Generator | None = None) -> Images:
        """A draw, clipped to [0, 1]."""
        noise = fill_normal(torch.empty_like(self.location), generator)
        return (self.location + self.log_scale.exp() * noise).clamp(0, 1)


class DiscretizedLogistic(_LocationScale):
    """Exact mass of the 8-bit level x = k / 255 under a logistic (Kingma et al. 2016).

    P(k) = S((k + 1/2) / 255) - S((k - 1/2) / 255), with S the distribution function. The first
    and the last level include the tails, so that the 256 masses sum to one.
    """

    scale_of_std: ClassVar[float] = math.sqrt(3) / math.pi
    bits_gained: ClassVar[float] = 0.0
    floor: ClassVar[float] = math.log(0.25 / LEVELS)

    @property
    def mean(self) -> Images:
        """E[x] = 1/255 sum over k = 0..254 of P(level > k), exactly."""
        total = torch.zeros_like(self.location)
        for k in range(LEVELS - 1):
            total += torch.sigmoid(-self._standardised((k + 0.5) / (LEVELS - 1)))
        return total / (LEVELS - 1)

    def _standardised(self, edge: Tensor | float) -> Tensor:
        return (edge - self.location) * (-self.log_scale).exp()

    def log_prob(self, x: Images) -> Float[Tensor, " batch"]:
        half = 0.5 / (LEVELS - 1)
        below, above = self._standardised(x - half), self._standardised(x + half)
        width = 2 * half * (-self.log_scale).exp()
        # log(S(b) - S(a)) = log S(b) + log S(-a) + log(1 - exp(-width)) stays finite in both tails.
        inner = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-width))
        first, last = F.logsigmoid(above), F.logsigmoid(-below)
        return _per_image(torch.where(x < half, first, torch.where(x > 1 - half, last, inner)))

    def sample(self, generator: torch.Generator | None = None) -> Images:
        u = _uniform_like(self.location, generator).clamp(1e-6, 1 - 1e-6)
        x = self.location + self.log_scale.exp() * torch.logit(u)
        return (x * (LEVELS - 1)).round().clamp(0, LEVELS - 1) / (LEVELS - 1)


def _uniform_like(values: Tensor, generator: torch.Generator | None) -> Tensor:
    return fill_uniform(torch.empty_like(values), generator)


Observation = Bernoulli | Gaussian | DiscretizedLogistic

OBSERVATIONS: dict[ObservationName, type[Observation]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "discretized_logistic": DiscretizedLogistic,
}


def bits_per_dim(nats: Tensor | float, observation: ObservationName, dims: int) -> Tensor | float:
    """Bits per dimension of a log-likelihood or bound `nats` over `dims` = C H W values.

    -nats / (dims ln 2), plus 8 bits for a density on [0, 1]: its mass per 8-bit level is
    p(x) / 256.
    """
    return OBSERVATIONS[observation].bits_gained - nats / (dims * math.log(2))
