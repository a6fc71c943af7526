"""The figure of a study: a panel per plot, a line per value of one axis, means over seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

from limner.figures import style

X_TITLES = {
    "steps": "training steps",
    "groups": "latent groups",
    "parameters": "parameters",
    "training seconds": "seconds of training",
    "memory": "memory of a training step, MiB",
}
Y_TITLES = {
    "-ELBO": "−ELBO, nats per image",
    "-L_K": "−L_{}, nats per image",
    "bits per dimension": "bits per dimension",
}
MIB = 2**20
WHOLE = ("steps", "groups")
MOST_TICKS = 8


@style.styled
def study_figure(
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    plots: Sequence[tuple[str, str]],
    lines: str | None,
    samples: int,
    title: str,
) -> Figure:
    """Panels of y against x, lower is better, with bars of one standard error.

    Args:
        rows: means over seeds, each with a mean and an error, as in `studies.averaged`.
        labels: names of the axes of the study.
        plots: x and y of each panel.
        lines: the label that has a line for each of its values; None: one line.
        samples: K of -L_K.
    """
    columns = min(2, len(plots))
    tall = max(2.8, 0.6 + 0.24 * len(rows)) if any(x == "choice" for x, _ in plots) else 2.8
    made = style.figure(7.2, tall * math.ceil(len(plots) / columns))
    axes = made.subplots(math.ceil(len(plots) / columns), columns, squeeze=False).flatten()
    names = list(dict.fromkeys(_value(row, lines) for row in rows))
    for panel, (x, y) in zip(axes, plots, strict=False):
        if x == "choice":
            _choices(panel, rows, labels, y, samples)
            continue
        for k, name in enumerate(names):
            own = [row for row in rows if _value(row, lines) == name]
            _line(panel, own, x, y, name, k)
        _label(panel, x, y, samples)
        _ticks(panel, {row[x].mean for row in rows if x in WHOLE})
    for panel in axes[len(plots) :]:
        panel.set_visible(False)
    made.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
    with_lines = [panel for panel, (x, _) in zip(axes, plots, strict=False) if x != "choice"]
    if len(names) > 1 and with_lines:
        legend = with_lines[0].legend(title=lines)
        legend.set_in_layout(False)  # a long one would leave the panels no room
        for text in legend.get_texts():
            text.set_parse_math(False)
    return made


def _line(
    axes: Axes, rows: Sequence[Mapping[str, Any]], x: str, y: str, name: str, index: int
) -> None:
    scale = 1 / MIB if x == "memory" else 1
    points = sorted((scale * row[x].mean, row[y].mean, row[y].error or 0) for row in rows)
    if points:
        xs, ys, errors = zip(*points, strict=True)
        axes.errorbar(
            xs, ys, errors, label=name, marker="o", markersize=3, capsize=2, **style.series(index)
        )


def _value(row: Mapping[str, Any], label: str | None) -> str:
    return "" if label is None else str(row.get(label, ""))


def _choices(
    axes: Axes, rows: Sequence[Mapping[str, Any]], labels: Sequence[str], y: str, samples: int
) -> None:
    """A place for each combination of choices, from top to bottom."""
    names = [" ".join(str(row[label]) for label in labels if label in row) for row in rows]
    places = range(len(rows))
    axes.errorbar(
        [row[y].mean for row in rows], places, xerr=[row[y].error or 0 for row in rows],
        marker="o", markersize=4, capsize=2, linestyle="", color=style.SERIES[0],
    )  # fmt: skip
    axes.set_yticks(places, names, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel=Y_TITLES[y].format(samples))
    axes.grid(axis="x")


def _label(axes: Axes, x: str, y: str, samples: int) -> None:
    axes.set(xlabel=X_TITLES[x], ylabel=Y_TITLES[y].format(samples), xscale="log")


def _ticks(axes: Axes, values: set[float]) -> None:
    """Ticks at `values` if they are few; otherwise at 1, 2 and 5, or evenly within a decade."""
    low, high = axes.get_xlim()
    few = 0 < len(values) <= MOST_TICKS
    within = MaxNLocator(5) if high < 10 * low else LogLocator(subs=(1, 2, 5))
    axes.xaxis.set_major_locator(FixedLocator(sorted(values)) if few else within)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))


def _short(value: float) -> str:
    """A number in few letters: 1,500,000 as 1.5M."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:g}"
