"""Discretized logistic mixture (Salimans et al. 2017, PixelCNN++): 8-bit levels with exact masses.

A pixel x = (x_1, ..., x_C) has one of K = 10 components, shared by its channels. Given component k,
channels are logistic, each conditioned on those before:

    m_kc(x) = m_kc + sum over j < c of a_kcj (x_j - 1/2),   a = tanh(map)
    p(x) = sum over k of w_k prod over c of P(x_c; m_kc(x), s_kc),   w = softmax(maps)
"""

import math
from collections.abc import Sequence
from copy import copy
from functools import reduce
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from limner.device import fill_uniform
from limner.layers.levels import (
    SCALE_OF_STD,
    clipped_mean,
    floored,
    log_mass,
    log_masses,
    logistic,
    nearest_level,
    per_image,
)
from limner.layers.precision import full

Images = Float[Tensor, "batch channels height width"]
COMPONENTS = 10
CEILING = 5.0
"""The largest log scale. Above it half of the mass is in each tail and rounding dominates E[x]."""
SOFTNESS = 0.1
"""Scale of the logistic that softens the clipping of a drawing."""
STARTING_IMAGES = 2000
"""The first canvas is made of about this many images."""
POINTS, MULTIPLIER = 32, 19
"""Korobov lattice for E[x]: coordinate j of point i is i * MULTIPLIER^j mod POINTS, in strata."""


class DiscretizedLogisticMixture:
    """Ten logistics per pixel; the first and the last of 256 levels include the tails.

    Maps: 10 logits; locations [10, C], 0 at x = 1/2 and 1 at x = 1; log scales [10, C], with the
    floor of `DiscretizedLogistic`; coefficients [10, C (C - 1) / 2], rows of a triangle.
    """

    bits_gained: ClassVar[float] = 0.0

    def __init__(self, canvas: Tensor):
        logits, self.location, log_scale, self.coefficient = _split(full(canvas))
        self.log_weight = logits.log_softmax(1)  # [B, K, H, W]; the others have channels after K
        self.log_scale = floored(log_scale).clamp_max(CEILING)

    @staticmethod
    def maps(channels: int) -> int:
        """Per component: a logit, a location and a log scale per channel, and coefficients."""
        return COMPONENTS * math.comb(channels + 2, 2)

    @staticmethod
    def drawing(canvas: Tensor, channels: int) -> Images:
        """The weighted mean of locations, given the drawing of earlier channels, softly clipped."""
        logits, location, _, coefficient = _split(full(canvas))
        weight = logits.softmax(1)[:, :, None]
        location, coefficient = (weight * location).sum(1), (weight * coefficient).sum(1)
        drawn = list[Tensor]()
        for channel in range(channels):
            given = _conditioned(location, coefficient, channel, drawn)
            drawn.append(clipped_mean(given, SOFTNESS))
        return torch.stack(drawn, 1)

    @staticmethod
    def initial_canvas(images: Images) -> Float[Tensor, "maps height width"]:
        """Each pixel's values, sorted by their sum over channels: a tenth for each component.

        Locations and scales are those of the tenth; weights are equal, coefficients zero.
        """
        images = images[:: max(1, len(images) // STARTING_IMAGES)]
        n, channels, *size = images.shape
        order = images.sum(1, keepdim=True).argsort(0).expand_as(images)
        values = images.gather(0, order)
        starts = [k * n // COMPONENTS for k in range(COMPONENTS + 1)]
        parts = [values[i : max(i + 1, j)] for i, j in pairwise(starts)]
        location = torch.stack([2 * part.mean(0) - 1 for part in parts])
        spread = torch.stack([part.std(0, correction=0) for part in parts])
        log_scale = (SCALE_OF_STD * spread.clamp_min(0.05)).log()
        logits, coefficient = (
            images.new_zeros(COMPONENTS * maps, *size) for maps in (1, math.comb(channels, 2))
        )
        return torch.cat([logits, location.flatten(0, 1), log_scale.flatten(0, 1), coefficient])

    @property
    def mean(self) -> Images:
        """E[x], within a small fraction of a level.

        One channel has a closed form; so has a channel given those before, and the expectation over
        these is the average over the points of a lattice.
        """
        scale, first = self.log_scale.exp().unbind(2), self._location(0, [])
        given = [clipped_mean(first, scale[0])] + [torch.zeros_like(first)] * (len(scale) - 1)
        for point in _lattice(len(scale) - 1):
            location, before = first, list[Tensor]()
            for channel, noise in enumerate(point, start=1):
                before.append((location + noise * scale[channel - 1]).clamp(0, 1))
                location = self._location(channel, before)
                given[channel] = given[channel] + clipped_mean(location, scale[channel]) / POINTS
        return (self.log_weight.exp()[:, :, None] * torch.stack(given, 2)).sum(1)

    def log_prob(self, x: Images) -> Float[Tensor, " batch"]:
        before = [channel[:, None] for channel in x.unbind(1)]
        location = [self._location(channel, before[:channel]) for channel in range(len(before))]
        masses = log_mass(x[:, None], torch.stack(location, 2), self.log_scale)
        return per_image(torch.logsumexp(self.log_weight + masses.sum(2), 1))

    def log_masses(
        self, channel: int, before: Sequence[Tensor]
    ) -> Float[Tensor, "batch height width levels"]:
        """Logs of the masses of the 256 levels in a channel, given those `before` [B, H, W]."""
        before, log_weight = [x[:, None] for x in before[:channel]], self.log_weight
        for c, level in enumerate(before):
            location = self._location(c, before[:c])
            log_weight = log_weight + log_mass(level, location, self.log_scale[:, :, c])
        location, log_scale = self._location(channel, before), self.log_scale[:, :, channel]
        parts = zip(
            log_weight.log_softmax(1).unbind(1),
            location.unbind(1),
            log_scale.unbind(1),
            strict=True,
        )
        terms = (weight[..., None] + log_masses(m, s) for weight, m, s in parts)
        return reduce(torch.logaddexp, terms)  # one component at a time: all take ten times as much

    def sample(self, generator: torch.Generator | None = None) -> Images:
        """A component, then the channels in turn, each given the levels of those before."""
        batch, _, channels, *size = self.location.shape
        noise = self.location.new_empty(batch, 1 + channels, *size)
        first, *rest = fill_uniform(noise, generator).split(1, dim=1)
        below = self.log_weight.exp().cumsum(1) <= first
        component = below.sum(1, keepdim=True).clamp_max(COMPONENTS - 1)
        one = copy(self)
        for name in ("location", "log_scale", "coefficient"):
            chosen = getattr(self, name).take_along_dim(component[:, :, None], 1)
            setattr(one, name, chosen)
        x = list[Tensor]()
        for channel, uniform in enumerate(rest):
            scale = one.log_scale[:, :, channel].exp()
            x.append(nearest_level(one._location(channel, x) + scale * logistic(uniform)))
        return torch.cat(x, 1)

    def _location(self, channel: int, before: Sequence[Tensor]) -> Tensor:
        """Location [B, K, H, W] of a channel given those before, which broadcast with it."""
        return _conditioned(self.location, self.coefficient, channel, before)


def _split(canvas: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits [B, K, H, W]; locations, log scales and coefficients [B, K, maps, H, W]."""
    per_component = canvas.shape[1] // COMPONENTS
    channels = (math.isqrt(8 * per_component + 1) - 3) // 2
    parts = (1, channels, channels, math.comb(channels, 2))
    maps = canvas.split([COMPONENTS * part for part in parts], dim=1)
    logits, location, log_scale, coefficient = (
        values.unflatten(1, (COMPONENTS, part)) for values, part in zip(maps, parts, strict=True)
    )
    return logits[:, :, 0], (1 + location) / 2, log_scale, torch.tanh(coefficient)


def _conditioned(
    location: Tensor, coefficient: Tensor, channel: int, before: Sequence[Tensor]
) -> Tensor:
    """m_c + sum over j of a_cj (x_j - 1/2), with maps of channels in dimension -3."""
    given, first = location.select(-3, channel), math.comb(channel, 2)
    for j, x in enumerate(before):
        given = given + coefficient.select(-3, first + j) * (x - 0.5)
    return given


def _lattice(dims: int) -> list[list[float]]:
    """Points [POINTS][dims] of standard logistic variables: means of strata of equal mass.

    The mean of the logit over (a, b) is (G(b) - G(a)) / (b - a), G(u) = u ln u + (1 - u) ln(1 - u).
    """
    edges = [i / POINTS for i in range(POINTS + 1)]
    primitive = [sum(p * math.log(p) for p in (u, 1 - u) if p) for u in edges]
    strata = [POINTS * (b - a) for a, b in pairwise(primitive)]
    return [[strata[i * MULTIPLIER**j % POINTS] for j in range(dims)] for i in range(POINTS)]
