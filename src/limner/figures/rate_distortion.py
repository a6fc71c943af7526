"""Rate and distortion of a model that keeps its first latent groups, beside picture formats."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from torch import Tensor

from limner.coding.depth import Point, decibels
from limner.figures import style
from limner.figures.contact import evenly
from limner.figures.grids import draw_rows
from limner.pictures import RGB, to_rgb

COLUMNS, DEPTHS = 10, 3
"""Images that are shown, and depths that they are shown at."""
HIGHEST = 3
"""Formats are shown up to this multiple of the model's largest rate, or of their own smallest."""


@style.styled
def rate_distortion(
    x: Tensor, unit: str, model: Sequence[Point], formats: Mapping[str, Sequence[Point]]
) -> Figure:
    """Signal-to-noise ratio against size, and some images at equal sizes.

    Args:
        x: the images [n, C, H, W].
        unit: the word for a latent group, such as step.
        model: at rising depth.
        formats: at rising size.
    """
    dims = x[0].numel()
    rows = _rows(x, unit, model, formats)
    height = len(rows) * 0.52 + 0.2
    made = style.figure(7.2, 2.6 + height)
    curves, pictures = made.subplots(2, height_ratios=(2.6, height))
    for index, (name, points) in enumerate({"model": model, **formats}.items()):
        end = HIGHEST * max(model[-1].bits, points[0].bits)
        shown = [point for point in points if point.bits <= end]
        rates = [point.bits / dims for point in shown]
        noise = [decibels(point.images, x) for point in shown]
        curves.plot(rates, noise, label=name, marker="o", **style.series(index))
    curves.set(xlabel="bits per dimension", ylabel="PSNR, dB", xscale="log")
    curves.xaxis.set_major_formatter(ScalarFormatter())
    curves.legend()
    draw_rows(pictures, rows)
    return made


def _rows(
    x: Tensor, unit: str, model: Sequence[Point], formats: Mapping[str, Sequence[Point]]
) -> list[tuple[str, RGB]]:
    """The images, and at each depth those of the model and of formats that are no larger.

    The smallest file of a format comes last if all are larger.
    """
    dims = x[0].numel()
    rows = [("image", x)]
    for place in evenly(np.arange(len(model)), DEPTHS):
        point = model[place]
        label = f"{point.kept} {unit}{'s' if point.kept > 1 else ''}"
        rows.append((f"{label}, {point.bits / dims:.3f}", point.images))
        for name, points in formats.items():
            fit = [other for other in points if other.bits <= point.bits]
            if fit or place == len(model) - 1:
                shown = fit[-1] if fit else points[0]
                least = "" if fit else "at least "
                rows.append((f"{name}, {least}{shown.bits / dims:.3f}", shown.images))
    return [(label, to_rgb(images[:COLUMNS])) for label, images in rows]
