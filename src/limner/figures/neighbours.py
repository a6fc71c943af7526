"""Nearest training images, which show whether a model memorises."""

from typing import NamedTuple

import torch
from torch import Tensor


class Neighbours(NamedTuple):
    """The nearest training image of each image."""

    rows: Tensor
    """int64 [n]: indices of the training images."""
    distances: Tensor
    """float [n], L2 over all pixels with values in [0, 1]."""


def nearest(images: Tensor, training: Tensor, chunk: int = 8192) -> Neighbours:
    """For each of `images` [n, C, H, W], the nearest in L2 of `training` [N, C, H, W].

    `images` are in [0, 1]; `training` is float in [0, 1] or uint8 levels. Of equally near images
    the first is taken.
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
