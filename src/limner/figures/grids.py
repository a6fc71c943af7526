"""Figures of image grids and of labelled rows of images."""

import math
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from limner.figures import style
from limner.pictures import RGB, columns_for, tile

WIDTH = 7.2
LETTER = 0.075
"""Width of a letter of a label, in inches."""
TICKS = 12
"""Headings above a walk."""
ROWS = 12
"""More named pairs than this are spread over several columns."""


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
    unit: str = "",
) -> Figure:
    """Rows of images [n, H, W, 3], each with its label at the left.

    Args:
        headings: a text above each column.
        unit: what the headings count, such as steps.
        width: largest width of the figure, in inches.
        image_inches: largest width of an image.
    """
    margin, size = _margin(rows), _tiled(rows).shape
    inches = min(width - margin, len(rows[0][1]) * image_inches)
    made = style.figure(margin + inches, inches * size[0] / size[1] + 0.25 + 0.17 * bool(unit))
    axes = made.subplots()
    draw_rows(axes, rows, headings)
    if unit:
        axes.set_xlabel(unit)
        axes.xaxis.set_label_position("top")
    return made


def walks(rows: Sequence[tuple[str, RGB]], images: bool) -> Figure:
    """Walks between two ends as labelled rows, under the share of the second end.

    Args:
        images: whether the ends are images, which stand left and right of the walk.
    """
    count = len(rows[0][1]) - 2 * images
    every = -(-count // TICKS)
    shares = ["" if k % every else f"{k / (count - 1):.3g}" for k in range(count)]
    headings = ["image", *shares, "image"] if images else shares
    unit = f"share of the second {'image' if images else 'draw'}"
    return labelled_rows(rows, headings, unit=unit)


@style.styled
def named_pairs(
    rows: Sequence[tuple[str, RGB]], headings: Sequence[str], image_inches: float = 0.62
) -> Figure:
    """Rows of images as in `labelled_rows`; more than 12 are spread over columns of rows."""
    columns = 1 if len(rows) <= ROWS else math.ceil(math.sqrt(len(rows) / 4))
    lines = -(-len(rows) // columns)
    blank = [("", np.full_like(rows[0][1], 255))] * (-len(rows) % lines)
    filled = [*rows, *blank]
    parts = [filled[start : start + lines] for start in range(0, len(filled), lines)]
    size, inches = _tiled(parts[0]).shape, len(headings) * image_inches
    width, height = _margin(rows) + inches + 0.1, inches * size[0] / size[1] + 0.25
    made = style.figure(width * len(parts), height)
    for axes, part in zip(made.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        draw_rows(axes, part, headings)
    return made


def _margin(rows: Sequence[tuple[str, RGB]]) -> float:
    """Room for the labels of rows, in inches."""
    return LETTER * max(len(re.sub(r"[$_{}]", "", label)) for label, _ in rows) + 0.1


def _tiled(rows: Sequence[tuple[str, RGB]]) -> RGB:
    counts = {len(images) for _, images in rows}
    assert len(counts) == 1, f"rows of {counts} images"
    images = np.concatenate([images for _, images in rows])
    return tile(images, counts.pop(), _gap(images))


def draw_rows(
    axes: Axes, rows: Sequence[tuple[str, RGB]], headings: Sequence[str] | None = None
) -> None:
    """Rows of images with their labels, and headings above the columns."""
    gap, (n, height, breadth, _) = _gap(rows[0][1]), rows[0][1].shape
    axes.imshow(_tiled(rows))
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, pad=3)
    axes.set_yticks(
        [row * (height + gap) + (height - 1) / 2 for row in range(len(rows))],
        [label for label, _ in rows],
    )
    centers = [k * (breadth + gap) + (breadth - 1) / 2 for k in range(n)]
    axes.set_xticks(centers if headings else [], headings or [])


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
