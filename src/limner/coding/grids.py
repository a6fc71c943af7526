"""Latent variables on a grid, in units of the prior: z = mu_p + sigma_p k step, k a whole number.

Each variable has a step of its own, half a standard deviation of its narrow posteriors. The entropy
coder gives each of N numbers at least 2^-24, so N / 2^24 of the numbers that are taken from the
stack are numbers at random, which the decoder has to make up for. Numbers are therefore taken from
a window around the posterior's mean; only the prior covers the whole grid.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from constriction import stream
from torch import Tensor
from torch.distributions import Normal

from limner.models.draws import Draws

FINENESS = 0.25
"""Step in standard deviations of a narrow posterior. It adds FINENESS^2 / 12 = 2 % to the variance
of z, which changes the ELBO in second order only."""
RARE = 0.01
"""Share of images whose posteriors may be narrower than a step is made for."""
REACH = 7.0
"""Standard deviations on either side of a mean that are covered."""
MARGIN = 1.5
"""Posteriors of other images may lie farther from the prior by this factor."""
MOST = 2**12
"""Largest number of a grid."""


class Grid(NamedTuple):
    """The grid of one latent group."""

    log2_steps: tuple[int, ...]
    """Of each latent variable."""
    most: int
    """Numbers are from -most to most."""
    window: int
    """A number taken by a posterior is at most this far from its mean."""

    def take(self, stack: Any, q: Normal, p: Normal) -> np.ndarray:
        """Numbers taken from the stack, as if drawn from `q`."""
        middle, off, sigma = self._windows(q, p)
        return middle + stack.decode(_gaussian(self.window), off, sigma)

    def put_back(self, stack: Any, q: Normal, p: Normal, numbers: np.ndarray) -> None:
        """The reverse of `take`."""
        middle, off, sigma = self._windows(q, p)
        stack.encode_reverse(numbers - middle, _gaussian(self.window), off, sigma)

    def take_by_prior(self, stack: Any, shape: torch.Size) -> np.ndarray:
        """Numbers of z [batch, *shape] taken from the stack, as if drawn from the prior."""
        return stack.decode(_gaussian(self.most), *self._standard(shape))

    def put(self, stack: Any, shape: torch.Size, numbers: np.ndarray) -> None:
        """Put numbers on the stack, coded by the prior; the reverse of `take_by_prior`."""
        stack.encode_reverse(numbers, _gaussian(self.most), *self._standard(shape))

    def values(self, numbers: np.ndarray, p: Normal) -> Tensor:
        """z of some numbers, in the shape of `p`."""
        noise = torch.from_numpy(numbers).double().reshape(len(p.loc), -1) * self._steps()
        z = p.loc.double() + p.scale.double() * noise.reshape(p.loc.shape)
        return z.to(p.loc)

    def _steps(self) -> Tensor:
        return torch.tensor(self.log2_steps, dtype=torch.float64).exp2()

    def _standard(self, shape: torch.Size) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the prior, in steps."""
        sigma = (1 / self._steps()).repeat(shape[0]).numpy()
        return np.zeros_like(sigma), sigma

    def _windows(self, q: Normal, p: Normal) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Middle of each window; mean relative to it and standard deviation of `q`, in steps."""
        mu, sigma = ((part.flatten(1) / self._steps()).flatten() for part in _relative(q, p))
        end = self.most - self.window
        middle = mu.round().clamp(-end, end)
        return middle.int().numpy(), (mu - middle).numpy(), sigma.numpy()


def _gaussian(most: int) -> Any:
    return stream.model.QuantizedGaussian(-most, most)


def fitted(q: Normal, p: Normal) -> Grid:
    """A grid for a latent group, by posteriors and priors of some images [batch, *shape]."""
    mu, sigma = (part.flatten(1) for part in _relative(q, p))
    narrow = torch.quantile(sigma, RARE, dim=0).clamp(max=1.0)
    log2_steps = (FINENESS * narrow).log2().floor()
    steps = log2_steps.exp2()
    window = math.ceil((REACH * sigma / steps).max().item())
    beyond = max((MARGIN * mu.abs() / steps).max().item() + window, REACH / steps.min().item())
    return Grid(
        tuple(log2_steps.int().tolist()), min(MOST, math.ceil(beyond)), min(MOST // 2, window)
    )


def _relative(q: Normal, p: Normal) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of (z - mu_p) / sigma_p for z ~ q, in float64."""
    scale = p.scale.double()
    return (q.loc.double() - p.loc.double()) / scale, q.scale.double() / scale


class Given(Draws):
    """Draws that are given their numbers, and remember the distributions that they meet."""

    def __init__(self, grids: Sequence[Grid], numbers: dict[int, np.ndarray]):
        super().__init__()
        self.grids, self.numbers = grids, numbers
        self.met: dict[int, tuple[Normal, Normal | None]] = {}

    def __call__(self, group: int, distribution: Normal, prior: Normal | None = None) -> Tensor:
        self.met[group] = distribution, prior
        return self.grids[group].values(self.numbers[group], prior or distribution)

    def put(self, stack: Any) -> None:
        """Put the numbers on the stack, last group first, coded by what they met."""
        for group, (q, p) in reversed(self.met.items()):
            grid, numbers = self.grids[group], self.numbers[group]
            if p is None:
                grid.put(stack, q.loc.shape, numbers)
            else:
                grid.put_back(stack, q, p, numbers)


class Taken(Given):
    """Draws that take their numbers from a stack."""

    def __init__(self, grids: Sequence[Grid], stack: Any):
        super().__init__(grids, {})
        self.stack = stack

    def __call__(self, group: int, distribution: Normal, prior: Normal | None = None) -> Tensor:
        grid = self.grids[group]
        self.numbers[group] = (
            grid.take_by_prior(self.stack, distribution.loc.shape)
            if prior is None
            else grid.take(self.stack, distribution, prior)
        )
        return super().__call__(group, distribution, prior)
