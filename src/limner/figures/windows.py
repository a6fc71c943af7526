"""DRAW's windows drawn on magnified images, in exact pixel geometry.

Pixels are numbered from 1 and pixel p covers [p - 1/2, p + 1/2], as in `limner.layers.attention`. A
window of N x N filters is the rectangle from the first to the last filter mean,

    center +- (N - 1) / 2 stride,

whose border widens with sigma, as in Gregor et al. (2015), figure 1.
"""

from typing import NamedTuple

import numpy as np

from limner.figures.style import CASING_RGB
from limner.layers.attention import Window
from limner.pictures import RGB, magnify

THINNEST = 2.0
"""Least width of a line in magnified pixels: it then covers some pixel entirely."""

LINES = 14
"""The longer side of an image in widths of the widest line: 2 pixels of 28."""


class Rectangle(NamedTuple):
    """Edges in pixels numbered from 1, and the width of the line along them, in pixels.

    Each field has the shape of the window's batch.
    """

    left: np.ndarray
    right: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    line: np.ndarray


def rectangle(window: Window, size: int) -> Rectangle:
    """The rectangle of `size` x `size` filters. For one filter, a point."""
    center = window.center.detach().cpu().double().numpy()
    reach = (size - 1) / 2 * window.stride.detach().cpu().double().numpy()
    x, y = center[..., 0], center[..., 1]
    line = line_width(window.sigma.detach().cpu().double().numpy())
    return Rectangle(x - reach, x + reach, y - reach, y + reach, line)


def line_width(sigma: np.ndarray) -> np.ndarray:
    """Width of a window's line in pixels of the image: 0.3 + sigma / 4."""
    return 0.3 + 0.25 * sigma


def coverage(low: float, high: float, length: int, factor: int) -> np.ndarray:
    """The share of each of `length * factor` magnified pixels that lies in [low, high].

    `low` and `high` are in image pixels numbered from 1. Image pixel p covers the magnified pixels
    (p - 1) factor .. p factor - 1.
    """
    edges = np.arange(length * factor + 1)
    start, stop = (low - 0.5) * factor, (high - 0.5) * factor
    covered = np.minimum(stop, edges[1:]) - np.maximum(start, edges[:-1])
    return np.clip(covered, 0.0, 1.0)


def dash_gaps(low: float, high: float, longest: float) -> list[tuple[float, float]]:
    """The gaps of a dashed edge from `low` to `high`, which has a dash at either corner.

    Dashes and gaps are equally long. An edge as long as `longest` has four dashes, and half of it
    or less has two: then a window is its four corners.
    """
    dashes = max(2, round(4 * (high - low) / longest))
    part = (high - low) / (2 * dashes - 1)
    return [(low + (2 * k + 1) * part, low + (2 * k + 2) * part) for k in range(dashes - 1)]


def outline(
    edges: Rectangle,
    shape: tuple[int, int],
    factor: int,
    dashed: bool = False,
    casing: float = 0.0,
) -> np.ndarray:
    """Opacity in [0, 1] of one window's line on an image of `shape` (height, width), magnified.

    [height factor, width factor]. The line is centred on the rectangle's edges, not wider than a
    14th of the image, and its area is exact in every magnified pixel. Parts outside the image are
    cut off.

    Args:
        dashed: leave gaps between the corners.
        casing: pixels by which the line is wider on both sides, and longer at the ends of dashes.
    """
    left, right, top, bottom, line = (float(field) for field in edges)
    half = max(min(line, max(shape) / LINES), THINNEST / factor) / 2 + casing
    inner = -min(half, (right - left) / 2, (bottom - top) / 2)

    def covered(low: float, high: float, length: int, margin: float) -> np.ndarray:
        first, last = low - margin, high + margin
        line = coverage(first, last, length, factor)
        for start, stop in dash_gaps(low, high, max(shape)) if dashed else ():
            gap = max(start + casing, first), min(stop - casing, last)
            line = line - coverage(*gap, length, factor)
        return line

    def block(margin: float) -> np.ndarray:
        rows = covered(top, bottom, shape[0], margin)
        return np.outer(rows, covered(left, right, shape[1], margin))

    return block(half) - block(inner)


def draw_windows(
    images: RGB,
    window: Window,
    size: int,
    colour: tuple[int, int, int],
    factor: int,
    dashed: bool = False,
) -> RGB:
    """Images [steps, n, H, W, 3] magnified, each with the outline of its window [steps, n].

    A casing of 1.5 magnified pixels or more edges the line: it then covers three quarters of some
    pixel.
    """
    magnified = magnify(images, factor)
    edges = rectangle(window, size)
    casing = max(1.5, factor / 4) / factor
    for index in np.ndindex(images.shape[:-3]):
        one = Rectangle(*(np.asarray(field[index]) for field in edges))
        for paint, wider in ((CASING_RGB, casing), (colour, 0.0)):
            opacity = outline(one, images.shape[-3:-1], factor, dashed, wider)[..., None]
            blended = magnified[index] * (1 - opacity) + np.asarray(paint) * opacity
            magnified[index] = np.rint(blended).astype(np.uint8)
    return magnified
