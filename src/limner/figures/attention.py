"""DRAW's windows by step: density of their centres, their size and their sharpness."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from limner.figures import style
from limner.figures.windows import rectangle
from limner.layers.attention import Window, Windows
from limner.pictures import strided

MAX_STEPS = 10
"""Panels in a row. Longer sequences show every second step, every third, and so on."""


def center_density(centers: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Share of windows [n, 2] whose centre (x, y) lies in each pixel of `shape`, [H, W].

    Pixel p covers [p - 1/2, p + 1/2); a centre outside the image counts for the nearest pixel.
    """
    height, width = shape
    columns = np.clip(np.floor(centers[:, 0] + 0.5), 1, width).astype(int) - 1
    rows = np.clip(np.floor(centers[:, 1] + 0.5), 1, height).astype(int) - 1
    counts = np.bincount(rows * width + columns, minlength=height * width)
    return counts.reshape(height, width) / max(len(centers), 1)


@style.styled
def where_it_looks(
    windows: Windows, average: np.ndarray, read_size: int, write_size: int
) -> Figure:
    """Density of reading and writing centres over n images, and the median window, by step.

    `windows` are [steps, n]. Shades are the square root of the density, relative to the panel's
    maximum. `average` [H, W] is the average image; its contour at half its maximum is drawn.
    """
    rows = _named(windows, read_size, write_size)
    steps = strided(len(windows.write.sigma), MAX_STEPS)
    inch, share = min(0.72, 6.4 / len(steps)), average.shape[0] / average.shape[1]
    made = style.figure(len(steps) * inch + 0.7, len(rows) * (inch * share + 0.05) + 0.5)
    grid = made.subplots(len(rows), len(steps), squeeze=False)
    for row, (kind, window, size) in zip(grid, rows, strict=True):
        for axes, step in zip(row, steps, strict=True):
            one = Window(*(field[step] for field in window))
            _centers(axes, one, average)
            _median_window(axes, one, size, kind, average.shape)
        row[0].set_ylabel(kind)
    for axes, step in zip(grid[-1], steps, strict=True):
        axes.set_xlabel(f"{step + 1}", fontsize=8, labelpad=2)
    made.supxlabel("step", fontsize=8.5)
    made.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)  # type: ignore[union-attr,call-arg]
    return made


def _named(
    windows: Windows, read_size: int, write_size: int
) -> list[tuple[Literal["reading", "writing"], Window, int]]:
    """The kinds of windows that there are, with their filters per side."""
    writing = ("writing", windows.write, write_size)
    return [writing] if windows.read is None else [("reading", windows.read, read_size), writing]


def _centers(axes: Axes, window: Window, average: np.ndarray) -> None:
    """The density of centres [n, 2], under the outline of the average image."""
    density = center_density(window.center.cpu().numpy(), average.shape)
    axes.imshow(np.sqrt(density), cmap=style.HEAT, vmin=0)
    axes.contour(average, [average.max() / 2], colors="white", linewidths=0.4, alpha=0.7)
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _median_window(
    axes: Axes,
    window: Window,
    size: int,
    kind: Literal["reading", "writing"],
    shape: tuple[int, int],
) -> None:
    """The window of median centre and stride over n images, cut at the edge of the image."""
    median = Window(*(field.cpu().quantile(0.5, dim=0) for field in window))
    edges = rectangle(median, size)
    left, right = np.clip((edges.left, edges.right), 1, shape[1]) - 1
    top, bottom = np.clip((edges.top, edges.bottom), 1, shape[0]) - 1
    line = style.window_line(kind, width=1.0, casing="black")
    axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], **line)


@style.styled
def window_sizes(windows: Windows, read_size: int, write_size: int) -> Figure:
    """Side (N - 1) stride of the windows, and their sigma, by step, in pixels.

    Lines are medians over images, bands the 10th to 90th percentile. A single filter has side 0.
    """
    made, (sides, sigmas) = style.panels(2, height=2.6)
    sides.set(title="side of the window", xlabel="step", ylabel="pixels")
    sigmas.set(title="sigma of its filters", xlabel="step", ylabel="pixels")
    for kind, window, size in _named(windows, read_size, write_size):
        line = style.window_line(kind, width=1.6) | {"label": f"{kind} ({size} × {size} filters)"}
        _band(sides, (size - 1) * window.stride.cpu().numpy(), line)
        _band(sigmas, window.sigma.cpu().numpy(), line)
    sides.legend(handlelength=3)
    for axes in (sides, sigmas):
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return made


def _band(axes: Axes, values: np.ndarray, line: dict[str, Any]) -> None:
    """Median over images of [steps, n], and a band from the 10th to the 90th percentile."""
    low, middle, high = np.percentile(values, (10, 50, 90), axis=1)
    steps: Sequence[int] = range(1, len(middle) + 1)
    axes.fill_between(steps, low, high, color=line["color"], alpha=0.25, linewidth=0)
    axes.plot(steps, middle, **line)
