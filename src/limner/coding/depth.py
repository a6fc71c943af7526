"""Lossy compression by depth (Gregor et al. 2016): the model draws what is not stored.

The first groups, in the order of generation, are stored; the receiver continues with the means of
the prior and takes the mean image. Without x it cannot restore q(z | x), so that bits-back does not
pay. Each z is the number k nearest to the posterior's mean on a grid,

    z = mu_p + sigma_p k step,   step = sqrt(12) sigma_q / sigma_p

whose rounding errors have the variance of the posterior, so that z is as exact as a draw from it.
Numbers are coded by a Gaussian with the spread that they have over images. Per variable that is
ln(2 pi e / 12) / 2 = 0.18 nats more than the KL if the KL is large, and nothing if it is zero.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from limner.coding.coder import stream
from limner.coding.container import BATCH, DAMAGED, WORD, Header, stack_of
from limner.coding.grids import NO_PRIOR, placed, relative
from limner.coding.pixels import (
    NOT_FINITE,
    in_double,
    levels_of,
    posteriors,
    shown,
    together,
)
from limner.errors import InputError
from limner.models.base import LatentVariableModel
from limner.models.draws import Draws
from limner.progress import Report

STEP = math.sqrt(12)
"""In standard deviations of a typical posterior."""
PER_OCTAVE = 4
"""Spreads are powers of 2^(1/4)."""


class Kept(NamedTuple):
    """The grid of a latent group that is kept."""

    log2_steps: tuple[int, ...]
    log2_spreads: tuple[int, ...]
    """Of the standard deviations of the numbers, in quarters."""
    most: int
    """The largest number."""

    @property
    def family(self) -> Any:
        return stream.model.QuantizedGaussian(-self.most, self.most)

    def parameters(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations of the numbers of `count` images, flat."""
        spreads = np.tile(np.exp2(np.array(self.log2_spreads) / PER_OCTAVE), count)
        return np.zeros_like(spreads), spreads


class Nearest(Draws):
    """The numbers nearest to posterior means in the first groups, and means in the others."""

    def __init__(self, log2_steps: Sequence[tuple[int, ...]], keep: int):
        super().__init__()
        self.log2_steps, self.keep = log2_steps, keep
        self.numbers: dict[int, np.ndarray] = {}

    def __call__(self, group: int, distribution: Normal, prior: Normal | None = None) -> Tensor:
        if len(self.numbers) == self.keep:
            return distribution.loc
        if prior is None:
            raise InputError(NO_PRIOR)
        steps = self.log2_steps[group]
        mu, _ = relative(distribution, prior, steps)
        self.numbers[group] = np.rint(mu).astype(np.int32)
        return placed(self.numbers[group], steps, prior)


class Stored(Draws):
    """z of given numbers in the first groups, and means of the prior in the others."""

    def __init__(self, kept: Sequence[Kept], numbers: Sequence[np.ndarray]):
        super().__init__()
        self.left = list(zip(kept, numbers, strict=True))[::-1]

    def __call__(self, group: int, distribution: Normal, prior: Normal | None = None) -> Tensor:
        if not self.left:
            return distribution.loc
        kept, numbers = self.left.pop()
        if len(kept.log2_steps) != distribution.loc[0].numel():
            raise InputError(DAMAGED)
        return placed(numbers, kept.log2_steps, distribution)


def encoded(
    model: LatentVariableModel, levels: Tensor, keep: int, report: Report | None = None
) -> tuple[tuple[Kept, ...], np.ndarray]:
    """The first `keep` groups of images, and their numbers as words.

    Raises:
        InputError: there is no such number of groups.
    """
    if not 1 <= keep <= model.num_groups:
        raise InputError(
            f"The latent groups that this model can keep are 1 to {model.num_groups}; got {keep}."
        )
    return stored(*nearest(model, levels, keep, report))


def nearest(
    model: LatentVariableModel, levels: Tensor, keep: int, report: Report | None = None
) -> tuple[list[tuple[int, ...]], list[np.ndarray]]:
    """Steps and numbers [images, variables] of the first groups, in the order of generation."""
    log2_steps = [_log2_steps(q, p) for q, p in posteriors(model, levels)]
    found: dict[int, list[np.ndarray]] = {}
    done = 0
    for part in levels.split(together(model)):
        draws = Nearest(log2_steps, keep)
        model._infer(shown(model, part), draws, "closed_form", trace=True)
        for group, numbers in draws.numbers.items():
            found.setdefault(group, []).append(numbers.reshape(len(part), -1))
        done += len(part)
        if report is not None:
            report(done, "")
    return [log2_steps[group] for group in found], [np.concatenate(rows) for rows in found.values()]


def _log2_steps(q: Normal, p: Normal) -> tuple[int, ...]:
    _, sigma = relative(q, p, (0,) * q.loc[0].numel())
    typical = np.median(sigma.reshape(len(q.loc), -1), axis=0)
    return tuple(np.rint(np.log2(STEP * typical)).astype(int).clip(-18, 8).tolist())


def stored(
    log2_steps: Sequence[tuple[int, ...]], numbers: Sequence[np.ndarray]
) -> tuple[tuple[Kept, ...], np.ndarray]:
    """Grids of groups, and their numbers as words."""
    stack, kept = stream.stack.AnsCoder(), list[Kept]()
    for steps, rows in reversed(list(zip(log2_steps, numbers, strict=True))):
        spread = np.sqrt(np.square(rows.astype(float)).mean(0)).clip(2.0**-4)
        log2_spreads = np.rint(PER_OCTAVE * np.log2(spread)).astype(int)
        group = Kept(steps, tuple(log2_spreads.tolist()), max(1, int(np.abs(rows).max())))
        stack.encode_reverse(rows.ravel(), group.family, *group.parameters(len(rows)))
        kept.append(group)
    return tuple(kept[::-1]), stack.get_compressed()


def decoded(
    model: LatentVariableModel, header: Header, words: np.ndarray, report: Report | None = None
) -> Tensor:
    """Mean images [n, C, H, W] in [0, 1]."""
    kept = [Kept(*each) for each in header.kept]
    stack, count = stack_of(words), header.images
    numbers = [
        stack.decode(group.family, *group.parameters(count)).reshape(count, -1) for group in kept
    ]
    return drawn(model, kept, numbers, report)


def drawn(
    model: LatentVariableModel,
    kept: Sequence[Kept],
    numbers: Sequence[np.ndarray],
    report: Report | None = None,
) -> Tensor:
    """Mean images of numbers."""
    images, count = list[Tensor](), len(numbers[0])
    for done in range(0, count, BATCH):
        rows = [group[done : done + BATCH] for group in numbers]
        size = len(rows[0])
        images.append(model._generate(size, Stored(kept, rows), trace=False).images)
        if report is not None:
            report(done + size, "")
    if not (found := torch.cat(images)).isfinite().all():
        raise InputError(NOT_FINITE)
    return found


class Point(NamedTuple):
    """Some images at some size."""

    kept: int
    """Latent groups."""
    bits: float
    """Per image."""
    images: Tensor


@torch.no_grad()
def curve(
    model: LatentVariableModel, x: Tensor, depths: Sequence[int], report: Report | None = None
) -> list[Point]:
    """Images `x` [n, C, H, W] with the first groups alone, at several depths.

    Args:
        x: images as the model sees them.
        depths: numbers of groups that are kept, in rising order.
        report: called with the number of depths that are done.
    """
    exact, found = in_double(model), list[Point]()
    log2_steps, numbers = nearest(exact, levels_of(model, x), depths[-1])
    for done, keep in enumerate(depths, 1):
        kept, words = stored(log2_steps[:keep], numbers[:keep])
        images = drawn(exact, kept, numbers[:keep])
        found.append(Point(keep, WORD * len(words) / len(x), images))
        if report is not None:
            report(done, "")
    return found


def decibels(images: Tensor, x: Tensor) -> float:
    """Peak signal-to-noise ratio: -10 log10 of the mean squared error of images in [0, 1]."""
    error = (images.double() - x.double()).square().mean()
    return -10 * torch.log10(error.clamp_min(1e-12)).item()
