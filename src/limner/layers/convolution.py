"""Convolutions of maps [batch, maps, height, width] of any size, and a convolutional LSTM.

Resolutions are those of the image divided by a scale 1, 2, 4, ..., rounded up: 37 x 53 pixels are
10 x 14 cells at scale 4.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from limner.layers.gaussian import normal
from limner.layers.mlp import ACTIVATIONS
from limner.layers.names import ActivationName
from limner.layers.precision import full
from limner.layers.recurrent import LSTMState, lstm

Size = tuple[int, int]
Maps = Float[Tensor, "batch maps height width"]
Resized = Float[Tensor, "batch new_maps new_height new_width"]


def at_scale(size: Sequence[int], scale: int) -> Size:
    """Height and width in cells of `scale` x `scale` pixels; the last ones may be smaller."""
    height, width = size
    return math.ceil(height / scale), math.ceil(width / scale)


class Convolution(nn.Conv2d):
    """A convolution with an odd kernel that keeps the size, padded with zeros.

    Its weights start with variance 1 / inputs, which keeps that of what passes through it (LeCun
    et al. 1998); torch's start with a third of it, and a chain of five loses a signal of 1 in 16.
    """

    def __init__(self, in_maps: int, out_maps: int, kernel: int = 3, bias: bool = True):
        super().__init__(in_maps, out_maps, kernel, padding=kernel // 2, bias=bias)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.weight[0].numel() ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def cells_to_maps(input: Maps, scale: int) -> Resized:
    """`F.pixel_unshuffle`, which does not take an empty batch."""
    parts = input.unflatten(3, (-1, scale)).unflatten(2, (-1, scale))
    return parts.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def maps_to_cells(input: Maps, scale: int) -> Resized:
    """`F.pixel_shuffle`, which does not take an empty batch."""
    parts = input.unflatten(1, (-1, scale, scale)).permute(0, 1, 4, 2, 5, 3)
    return parts.flatten(4, 5).flatten(2, 3)


class Down(Convolution):
    """To a coarser resolution: `scale` x `scale` pixels become maps, then a convolution."""

    def __init__(self, in_maps: int, out_maps: int, scale: int, kernel: int = 3):
        super().__init__(in_maps * scale**2, out_maps, kernel)
        self.scale = scale

    def forward(self, input: Maps) -> Resized:
        height, width = input.shape[-2:]
        padded = F.pad(input, (0, -width % self.scale, 0, -height % self.scale))
        return super().forward(cells_to_maps(padded, self.scale))


class Up(Convolution):
    """To a finer resolution, `size`: a convolution, then maps become cells (Shi et al. 2016)."""

    def __init__(
        self,
        in_maps: int,
        out_maps: int,
        scale: int,
        size: Size,
        kernel: int = 3,
        bias: bool = True,
    ):
        super().__init__(in_maps, out_maps * scale**2, kernel, bias)
        self.scale, self.size = scale, size

    def forward(self, input: Maps) -> Resized:
        height, width = self.size
        return maps_to_cells(super().forward(input), self.scale)[..., :height, :width]


def normalised(maps: int, activation: ActivationName) -> nn.Sequential:
    """A normalisation over all maps and places of one image, then a nonlinearity."""
    return nn.Sequential(nn.GroupNorm(1, maps), ACTIVATIONS[activation]())


class ResidualBlock(nn.Module):
    """x + f(x), with f two convolutions, each after `normalised` (He et al. 2016).

    `share` scales the initial weights of the last convolution: with 1 / sqrt(number of blocks), a
    chain of blocks starts with the variance of a single one (Child 2021).
    """

    def __init__(self, maps: int, activation: ActivationName, share: float = 1.0):
        super().__init__()
        self.first = nn.Sequential(normalised(maps, activation), Convolution(maps, maps))
        self.normalised = normalised(maps, activation)
        self.last = Convolution(maps, maps)
        self.last.weight.data.mul_(share)

    def forward(self, x: Maps) -> Maps:
        return x + self.last(self.normalised(self.first(x)))


def blocks(number: int, maps: int, activation: ActivationName) -> nn.Sequential:
    """A chain of residual blocks."""
    share = max(1, number) ** -0.5
    return nn.Sequential(*(ResidualBlock(maps, activation, share) for _ in range(number)))


class GaussianMaps(Convolution):
    """Maps to N(mu, sigma^2) of maps: mu and log sigma from one convolution.

    Its weights start smaller than usual by `scale`, so that divergences start small.
    """

    bias: nn.Parameter  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, in_maps: int, latent_maps: int, kernel: int = 3, scale: float = 0.3):
        super().__init__(in_maps, 2 * latent_maps, kernel)
        self.weight.data.mul_(scale)
        nn.init.zeros_(self.bias)

    def forward(self, input: Maps) -> Normal:  # type: ignore[override]
        mu, log_sigma = super().forward(input).chunk(2, dim=1)
        return normal(mu, log_sigma)


class ConvLSTMCell(Convolution):
    """A convolutional LSTM (Shi et al. 2015, without peepholes).

    One kernel [4 maps, inputs + maps, k, k] is applied to [inputs, h]. The biases of the forget
    gates start at 1.
    """

    def __init__(self, in_maps: int, maps: int, kernel: int = 3):
        super().__init__(in_maps + maps, 4 * maps, kernel)
        assert self.bias is not None
        with torch.no_grad():
            self.bias[maps : 2 * maps] = 1.0

    def forward(self, inputs: Sequence[Tensor], state: LSTMState) -> LSTMState:  # type: ignore[override]
        return lstm(full(super().forward(torch.cat([*inputs, state.h], dim=1))), state.c)


class InitialState(nn.Module):
    """A learned initial state of a convolutional LSTM, with a value for each map and place."""

    def __init__(self, maps: int, size: Size):
        super().__init__()
        self.h = nn.Parameter(0.1 * torch.randn(maps, *size))
        self.c = nn.Parameter(torch.zeros(maps, *size))

    def forward(self, batch: int) -> LSTMState:
        return LSTMState(self.h.repeat(batch, 1, 1, 1), self.c.repeat(batch, 1, 1, 1))
