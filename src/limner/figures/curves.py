"""Training curves: -ELBO and its parts by epoch, KL of each latent group.

`metrics` is one dictionary per epoch, as in a run's metrics.jsonl. Curves show costs in nats per
image, -ELBO = -log p(x | z) + KL: lower is better.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from limner.figures import style

Metrics = Sequence[Mapping[str, Any]]
SPLITS = ("validation", "train")
NATS = "nats per image"
MOST_TICKS = 12
MOST_LINES = 6
"""Groups whose lines are in colour; with more groups, the others are grey."""


@style.styled
def training_curves(metrics: Metrics) -> Figure:
    """-ELBO, reconstruction and KL by epoch, each in its own panel.

    With a budget in minutes, training may end soon after a validation. A training mean over less
    than half the longest interval between validations is left out.
    """
    made, axes = style.panels(3)
    quantities = (
        ("elbo", "−ELBO", -1),
        ("reconstruction", "reconstruction, −log p(x | z)", -1),
        ("kl", "KL", 1),
    )
    epochs = [entry["epoch"] for entry in metrics]
    spans = np.diff(epochs, prepend=0.0)
    few = {"validation": np.zeros_like(spans, bool), "train": spans < spans.max(initial=0.0) / 2}
    for panel, (key, title, sign) in zip(axes, quantities, strict=True):
        for split, line, colour in zip(
            SPLITS, ("-", "--"), (style.INK, style.SERIES[1]), strict=True
        ):
            values = np.array([sign * _known(entry[split][key]) for entry in metrics])
            values[few[split]] = math.nan
            panel.plot(epochs, values, line, color=colour, label=split, marker=_dot(epochs))
        panel.set(title=title)
        _by_epoch(panel)
        _leave_out_the_start(panel)
    axes[0].set_ylabel(NATS)
    axes[0].legend()
    return made


@style.styled
def compared_curves(metrics: Mapping[str, Metrics]) -> Figure:
    """Validation -ELBO of several runs by name, against epochs and time."""
    made, (by_epoch, by_time) = style.panels(2, height=2.8)
    for k, (name, entries) in enumerate(metrics.items()):
        costs = [-_known(entry["validation"]["elbo"]) for entry in entries]
        minutes = [entry["seconds"] / 60 for entry in entries]
        epochs = [entry["epoch"] for entry in entries]
        by_epoch.plot(epochs, costs, label=name, marker=_dot(epochs), **style.series(k))
        by_time.plot(minutes, costs, marker=_dot(epochs), **style.series(k))
    by_epoch.set(title="validation −ELBO by epoch", ylabel=NATS)
    _by_epoch(by_epoch)
    by_time.set(title="validation −ELBO by time", xlabel="minutes of training")
    for panel in (by_epoch, by_time):
        _leave_out_the_start(panel)
    by_epoch.legend()
    return made


@style.styled
def kl_by_group(metrics: Metrics, group_names: Sequence[str], split: str = "validation") -> Figure:
    """KL of every latent group: bars at the last epoch, and lines by epoch.

    Of more than 6 groups, lines at an even stride from the first are in colour, as their bars.
    """
    kl = np.asarray([entry[split]["kl_per_group"] for entry in metrics], dtype=float).T
    epochs = [entry["epoch"] for entry in metrics]
    made, (bars, lines) = style.panels(2, height=2.6)
    shown = range(0, len(kl), -(-len(kl) // MOST_LINES))
    coloured = {group: style.series(k) for k, group in enumerate(shown)}
    colours = [coloured[k]["color"] if k in coloured else style.FAINT for k in range(len(kl))]
    bars.bar(range(len(kl)), kl[:, -1], color=colours, width=0.8)
    bars.set(title=f"KL of each group after epoch {epochs[-1]:g}", ylabel=NATS)
    _by_group(bars, group_names)
    for group, values in enumerate(kl):
        look = coloured.get(group, {"color": style.FAINT, "linewidth": 0.8})
        label = style.typeset(group_names[group]) if group in coloured else None
        layer = 2.1 if group in coloured else 1.9
        lines.plot(epochs, values, label=label, marker=_dot(epochs), zorder=layer, **look)
    lines.set(title="KL of each group by epoch")
    _by_epoch(lines)
    _leave_out_the_start(lines)
    lines.set_ylim(bottom=0)
    lines.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=2.6)
    return made


def _by_group(axes: Axes, names: Sequence[str]) -> None:
    """Label the x axis by group, at an even stride; a word that all names have is its label."""
    words = {name.rpartition(" ")[0] for name in names}
    word = words.pop() if len(words) == 1 else ""
    shown = range(0, len(names), -(-len(names) // MOST_TICKS))
    axes.set_xticks(shown, [style.typeset(names[k].removeprefix(f"{word} ")) for k in shown])
    axes.set_xlabel(word or "latent group")


def _known(value: float | None) -> float:
    """NaN for a value that was not finite, which leaves a gap in the curve."""
    return math.nan if value is None else value


def _by_epoch(axes: Axes) -> None:
    """Label the x axis, with ticks at whole epochs."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, steps=[1, 2, 2.5, 5, 10]))


def _dot(epochs: Sequence[float | int]) -> str:
    """A marker for curves of fewer than four points, which a line alone may not show."""
    return "o" if len(epochs) < 4 else ""


def _leave_out_the_start(axes: Axes) -> None:
    """Fit the y range to all but the first tenth of training, which would flatten the rest."""
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
    later = np.concatenate([line[len(line) // 10 :] for line in lines])
    later = later[np.isfinite(later)]
    if later.size:
        low, high = later.min(), later.max()
        margin = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
