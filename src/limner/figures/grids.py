"""Figures of image grids and of labelled rows of images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from limner.figures import style
from limner.figures.tiles import RGB, columns_for, tile

WIDTH = 7.2
LETTER = 0.075
"""Width of a letter of a label, in inches."""


@style.styled
def image_grid(images: RGB, columns: int | None = None, width: float = 4.5) -> Figure:
    """Images [n, H, W, 3] row by row in a grid, `width` inches wide."""
    tiled = tile(images, columns or columns_for(len(images)), gap=_gap(images))
    made = style.figure(width, width * tiled.shape[0] / tiled.shape[1])
    style.bare(made.subplots()).imshow(tiled)
    return made


@style.styled
def labelled_rows(
    rows: Sequence[tuple[str, RGB]],
    headings: Sequence[str] | None = None,
    width: float = WIDTH,
    image_inches: float = 0.62,
) -> Figure:
    """Rows of images [n, H, W, 3], each with its label at the left.

    Args:
        headings: a text above each column.
        width: largest width of the figure, in inches.
        image_inches: largest width of an image.
    """
    counts = {len(images) for _, images in rows}
    assert len(counts) == 1, f"rows of {counts} images"
    n, images = counts.pop(), np.concatenate([images for _, images in rows])
    gap, (height, breadth) = _gap(images), images.shape[1:3]
    tiled = tile(images, n, gap)
    margin = LETTER * max(len(label) for label, _ in rows) + 0.1
    inches = min(width - margin, n * image_inches)
    made = style.figure(margin + inches, inches * tiled.shape[0] / tiled.shape[1] + 0.25)
    axes = made.subplots()
    axes.imshow(tiled)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, pad=3)
    axes.set_yticks(
        [row * (height + gap) + (height - 1) / 2 for row in range(len(rows))],
        [label for label, _ in rows],
    )
    centers = [k * (breadth + gap) + (breadth - 1) / 2 for k in range(n)]
    axes.set_xticks(centers if headings else [], headings or [])
    return made


def pairs(
    first: tuple[str, RGB], second: tuple[str, RGB], columns: int = 12, width: float = WIDTH
) -> Figure:
    """Two labelled sets of n images, one above the other, in rows of equal length <= `columns`."""
    n = len(first[1])
    lines = -(-n // columns)
    columns = -(-n // lines)
    rows = []
    for start in range(0, n, columns):
        for label, images in (first, second):
            line = images[start : start + columns]
            blank = np.full((columns - len(line), *images.shape[1:]), 255, np.uint8)
            rows.append((label, np.concatenate([line, blank])))
    return labelled_rows(rows, width=width)


def _gap(images: RGB) -> int:
    """The gap between images: a 28th of the longer side, at least one pixel."""
    return max(1, max(images.shape[1:3]) // 28)
