"""DRAW's windows by step: density of their centres, their size and their sharpness."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from limner.figures import style
from limner.layers.attention import Windows
from limner.pictures import evenly

MAX_STEPS = 10
"""Panels in a row. Longer sequences show evenly spread steps."""


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
def where_it_looks(windows: Windows, average: np.ndarray) -> Figure:
    """Density of reading and writing centres over n images, one panel per step.

    `windows` are [steps, n]. Shades are the square root of the density, relative to the panel's
    maximum. `average` [H, W] is the average image; its contour at half its maximum is drawn.
    """
    shape = average.shape
    rows = [("reading", windows.read), ("writing", windows.write)]
    rows = [(name, window) for name, window in rows if window is not None]
    steps = evenly(len(windows.write.sigma), MAX_STEPS)
    inch = min(0.72, 6.4 / len(steps))
    made = style.figure(
        len(steps) * inch + 0.7, len(rows) * (inch * shape[0] / shape[1] + 0.05) + 0.3
    )
    grid = made.subplots(len(rows), len(steps), squeeze=False)
    for row, (name, window) in zip(grid, rows, strict=True):
        for axes, step in zip(row, steps, strict=True):
            density = center_density(window.center[step].cpu().numpy(), shape)
            axes.imshow(np.sqrt(density), cmap=style.HEAT, vmin=0)
            axes.contour(average, [average.max() / 2], colors="white", linewidths=0.4, alpha=0.7)
            axes.grid(False)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(name)
    for axes, step in zip(grid[0], steps, strict=True):
        axes.set_title(f"{step + 1}", loc="center", fontsize=8, pad=2)
    made.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)  # type: ignore[union-attr,call-arg]
    return made


@style.styled
def window_sizes(windows: Windows, read_size: int, write_size: int) -> Figure:
    """Side (N - 1) stride of the windows, and their sigma, by step, in pixels.

    Lines are medians over images, bands the 10th to 90th percentile. A single filter has side 0.
    """
    made, (sides, sigmas) = style.panels(2, height=2.6)
    sides.set(title="side of the window, pixels", xlabel="step")
    sigmas.set(title="sigma of its filters, pixels", xlabel="step", yscale="log")
    style.plain_log_ticks(sigmas)
    for name, window, size, colour, line in (
        ("reading", windows.read, read_size, style.READ, "-"),
        ("writing", windows.write, write_size, style.WRITE, "--"),
    ):
        if window is None:
            continue
        label = f"{name} ({size} × {size} filters)"
        stride, sigma = window.stride.cpu().numpy(), window.sigma.cpu().numpy()
        _band(sides, (size - 1) * stride, colour, line, label)
        _band(sigmas, sigma, colour, line, label)
    sides.legend()
    sides.set_ylim(bottom=0)
    return made


def _band(axes: Axes, values: np.ndarray, colour: str, line: str, label: str) -> None:
    """Median over images of [steps, n], and a band from the 10th to the 90th percentile."""
    low, middle, high = np.percentile(values, (10, 50, 90), axis=1)
    steps: Sequence[int] = range(1, len(middle) + 1)
    axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(steps, middle, line, color=colour, label=label)
