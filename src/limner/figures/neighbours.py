"""Nearest training images: does a model only remember?"""

from typing import NamedTuple

import torch
from torch import Tensor


class Neighbours(NamedTuple):
    """Of each image, the nearest other one."""

    rows: Tensor
    """int64 [n], of the training images."""
    distances: Tensor
    """float [n], L2 over all pixels with values in [0, 1]."""


def nearest(images: Tensor, training: Tensor, chunk: int = 8192) -> Neighbours:
    """For each of `images` [n, C, H, W] in [0, 1] the nearest in L2 of `training` [N, C, H, W].

    `training` is float in [0, 1] or uint8 levels. Ties go to the first.
    """
    wanted = images.flatten(1).double()
    best = torch.full((len(wanted),), torch.inf, dtype=torch.float64)
    index = torch.zeros(len(wanted), dtype=torch.int64)
    for start in range(0, len(training), chunk):
        part = training[start : start + chunk].flatten(1)
        part = part.double() / 255 if part.dtype == torch.uint8 else part.double()
        distance, found = _distances(wanted, part).min(dim=1)
        closer = distance < best
        best = torch.where(closer, distance, best)
        index = torch.where(closer, found + start, index)
    return Neighbours(index, best)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """L2 distances [len(a), len(b)]: |a|^2 + |b|^2 - 2 a b, in double precision."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return squares.clamp_min(0).sqrt()
