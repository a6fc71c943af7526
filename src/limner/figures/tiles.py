"""Images side by side, as arrays: uint8 RGB in, one uint8 RGB or RGBA array out."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

RGB = np.ndarray
"""uint8 [..., height, width, 3]."""


def to_rgb(images: Tensor | np.ndarray) -> RGB:
    """Images [..., channels, height, width] in [0, 1] as uint8 [..., height, width, 3].

    One channel becomes grey. Two are red and green. Of more, the first three are used.
    """
    array = images.detach().cpu().float().numpy() if isinstance(images, Tensor) else images
    levels = np.rint(np.clip(np.nan_to_num(array), 0, 1) * 255).astype(np.uint8)
    levels = np.moveaxis(levels, -3, -1)
    channels = levels.shape[-1]
    if channels == 1:
        return np.repeat(levels, 3, axis=-1)
    if channels == 2:
        return np.concatenate([levels, np.zeros_like(levels[..., :1])], axis=-1)
    return np.ascontiguousarray(levels[..., :3])


def magnify(images: RGB, factor: int) -> RGB:
    """Images [..., height, width, colours] with each pixel repeated `factor` x `factor` times."""
    return images.repeat(factor, axis=-3).repeat(factor, axis=-2)


def columns_for(count: int) -> int:
    """Columns of a nearly square grid of `count` images, at least as many as rows."""
    return max(1, int(np.ceil(np.sqrt(count))))


def tile(
    images: RGB, columns: int, gap: int = 1, background: Sequence[int] = (0, 0, 0, 0)
) -> np.ndarray:
    """Images [n, height, width, 3] in a grid of `columns`, row by row, `gap` pixels apart.

    The result is [rows (height + gap) - gap, columns (width + gap) - gap, len(background)]. With
    the default background of four numbers, gaps and empty cells are transparent.
    """
    n, height, width, _ = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    colours = len(background)
    out = np.empty((rows * (height + gap) - gap, columns * (width + gap) - gap, colours), np.uint8)
    out[:] = np.asarray(background, np.uint8)
    for k in range(n):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        place = out[top : top + height, left : left + width]
        place[..., :3] = images[k]
        place[..., 3:] = 255
    return out


def beside(panels: Sequence[RGB], gap: int = 1, level: int = 128) -> RGB:
    """Panels of images [..., height, width, 3], joined left to right with grey gaps."""
    bar = np.full((*panels[0].shape[:-2], gap, 3), level, np.uint8)
    parts = [part for panel in panels for part in (bar, panel)][1:]
    return np.concatenate(parts, axis=-2)
