"""Latent variables as whole numbers k, in units of the prior: z = mu_p + sigma_p k step.

Each variable has a step of its own, at most a quarter of its narrow posteriors' standard deviation.
The prior gives each number its mass. A posterior is constant over m = 1, 2, 4, ... numbers, an
eighth to a quarter of its own standard deviation: k = m j + u, with j from a Gaussian in a window
around the mean and u uniform. The entropy coder gives each of N numbers at least 2^-24, so that
N / 2^24 of what is taken from the stack is random, and prior and posterior must have few numbers.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from limner.coding.coder import stream
from limner.errors import InputError
from limner.models.draws import Draws

FINENESS = 0.25
"""Largest step in standard deviations of a posterior. It adds FINENESS^2 / 12 = 0.5 % to the
variance of z at most, which changes the ELBO in second order only."""
RARE = 0.01
"""Share of images whose posteriors may be narrower than a step is made for."""
WINDOW = 50
"""Largest j; an m is an eighth of a standard deviation or more, so the window covers 6.25."""
REACH = 8.0
"""Standard deviations of the prior on either side that have numbers, at least."""
MARGIN = 1.5
"""Posteriors of other images may lie farther from the prior by this factor."""
MOST = 2**20
"""The largest number."""
FINEST = -18
"""Base-two logarithm of the smallest step."""
ROUNDING = 2.0**-8
"""What the coder sees are multiples of this."""
NO_PRIOR = (
    "This model does not say the prior of a latent group when it draws from the posterior; call "
    "draws(group, q, p) in its _infer."
)


class Grid(NamedTuple):
    """The grid of one latent group."""

    log2_steps: tuple[int, ...]
    """Of each latent variable."""
    reach: int
    """Standard deviations of the prior on either side that have numbers."""

    def take_by_prior(self, stack: Any, shape: torch.Size) -> np.ndarray:
        """Numbers of z [batch, *shape] taken from the stack, as if drawn from the prior."""
        numbers = np.empty((shape[0], len(self.log2_steps)), np.int32)
        for places, prior in self._priors():
            taken = stack.decode(prior, shape[0] * int(places.sum()))
            numbers[:, places] = taken.reshape(shape[0], -1)
        return numbers.ravel()

    def put_by_prior(self, stack: Any, shape: torch.Size, numbers: np.ndarray) -> None:
        """The reverse of `take_by_prior`."""
        rows = numbers.reshape(shape[0], -1)
        for places, prior in reversed(list(self._priors())):
            stack.encode_reverse(np.ascontiguousarray(rows[:, places]).ravel(), prior)

    def take_by_posterior(self, stack: Any, q: Normal, p: Normal) -> np.ndarray:
        """Numbers taken from the stack, as if drawn from `q`."""
        bins = self._bins(q, p)
        j = bins.middle + stack.decode(_coarse(), bins.mean, bins.sigma)
        u, wide = np.zeros_like(j), bins.width > 1
        if wide.any():
            u[wide] = stack.decode(stream.model.Uniform(), bins.width[wide])
        return bins.width * j + u - bins.width // 2

    def put_by_posterior(self, stack: Any, q: Normal, p: Normal, numbers: np.ndarray) -> None:
        """The reverse of `take_by_posterior`."""
        bins = self._bins(q, p)
        j, u = np.divmod(numbers + bins.width // 2, bins.width)
        wide = bins.width > 1
        if wide.any():
            stack.encode_reverse(u[wide], stream.model.Uniform(), bins.width[wide])
        stack.encode_reverse(j - bins.middle, _coarse(), bins.mean, bins.sigma)

    def values(self, numbers: np.ndarray, p: Normal) -> Tensor:
        """z of some numbers, in the shape of `p`."""
        return placed(numbers, self.log2_steps, p)

    def _priors(self) -> Iterator[tuple[np.ndarray, Any]]:
        """The places of the variables that share a step, and the distribution of their numbers."""
        log2_steps = np.array(self.log2_steps)
        for log2_step in np.unique(log2_steps):
            places = log2_steps == log2_step
            most = int(self._most()[places][0])
            yield places, stream.model.QuantizedGaussian(-most, most, 0.0, 2.0**-log2_step)

    def _most(self) -> np.ndarray:
        """The largest number of each variable."""
        in_reach = np.ceil(self.reach * np.exp2(-np.array(self.log2_steps, float)))
        return in_reach.clip(WINDOW + 1, MOST).astype(np.int32)

    def _bins(self, q: Normal, p: Normal) -> "_Bins":
        mu, sigma = relative(q, p, self.log2_steps)
        sigma = _rounded(sigma).clip(ROUNDING)
        most = np.tile(self._most(), len(q.loc))
        widest = np.minimum(FINENESS * sigma, most / (WINDOW + 1))
        width = np.left_shift(1, (np.frexp(widest)[1] - 1).clip(0))  # a power of two below
        mean = _rounded((mu + (width > 1) / 2) / width)  # numbers m j + u - m / 2 have their middle
        end = most // width - WINDOW - 1
        middle = np.rint(mean).clip(-end, end)
        mean = (mean - middle).clip(-WINDOW, WINDOW)
        return _Bins(width, middle.astype(np.int32), mean, sigma / width)


def _coarse() -> Any:
    """The distributions of j in a window."""
    return stream.model.QuantizedGaussian(-WINDOW, WINDOW)


class _Bins(NamedTuple):
    """The numbers j of posteriors, flat."""

    width: np.ndarray
    """m, numbers per j."""
    middle: np.ndarray
    """The j in the middle of the window."""
    mean: np.ndarray
    """Of j - middle."""
    sigma: np.ndarray
    """Of j."""


def placed(numbers: np.ndarray, log2_steps: Sequence[int], p: Normal) -> Tensor:
    """z of numbers on a grid with these steps, in the shape of `p`."""
    rows = numbers.reshape(len(p.loc), -1) * np.exp2(np.array(log2_steps, float))
    return p.loc + p.scale * torch.from_numpy(rows).reshape(p.loc.shape)


def relative(q: Normal, p: Normal, log2_steps: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of (z - mu_p) / (sigma_p step) for z ~ q, flat."""
    per_step = torch.from_numpy(np.exp2(-np.array(log2_steps, float)))
    mu = ((q.loc - p.loc) / p.scale).flatten(1) * per_step
    sigma = (q.scale / p.scale).flatten(1) * per_step
    if not (mu.isfinite().all() and sigma.isfinite().all()):
        raise InputError(
            "The posterior of an image is not finite; compress with another checkpoint, or train "
            "again with a lower learning rate."
        )
    return mu.flatten().numpy(), sigma.flatten().numpy()


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(values / ROUNDING) * ROUNDING


def fitted(q: Normal, p: Normal) -> Grid:
    """A grid for a latent group, by posteriors and priors of some images [batch, *shape]."""
    none = (0,) * q.loc[0].numel()
    mu, sigma = (part.reshape(len(q.loc), -1) for part in relative(q, p, none))
    narrow = np.quantile(sigma, RARE, axis=0).clip(max=1.0)
    log2_steps = np.floor(np.log2(FINENESS * narrow)).clip(FINEST).astype(int)
    reach = max(REACH, MARGIN * np.abs(mu).max() + REACH * min(1.0, sigma.max()))
    return Grid(tuple(log2_steps.tolist()), math.ceil(min(reach, MOST)))


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
                grid.put_by_prior(stack, q.loc.shape, numbers)
            else:
                grid.put_by_posterior(stack, q, p, numbers)


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
            else grid.take_by_posterior(self.stack, distribution, prior)
        )
        return super().__call__(group, distribution, prior)
