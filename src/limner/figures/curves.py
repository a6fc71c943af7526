"""Training curves: bounds and their parts by epoch, KL of each latent group.

`metrics` is one dictionary per epoch, as in a run's metrics.jsonl. Curves show costs in nats per
image, -ELBO = -log p(x | z) + KL: lower is better.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from limner.figures import style

Metrics = Sequence[Mapping[str, Any]]
SPLITS = ("validation", "train")


@style.styled
def training_curves(metrics: Metrics) -> Figure:
    """-ELBO, reconstruction and KL by epoch, each in its own panel.

    With a budget in minutes, training may end soon after a validation. A training mean over less
    than half the longest interval between validations is left out.
    """
    made, axes = style.panels(3)
    quantities = (("elbo", "−ELBO", -1), ("reconstruction", "−log p(x | z)", -1), ("kl", "KL", 1))
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
        panel.set(title=f"{title}, nats")
        _by_epoch(panel)
        _leave_out_the_start(panel)
    axes[0].legend()
    return made


@style.styled
def compared_curves(metrics: Mapping[str, Metrics]) -> Figure:
    """Validation -ELBO of several runs by name, against epochs and time."""
    made, (by_epoch, by_time) = style.panels(2, height=2.8)
    for k, (name, entries) in enumerate(metrics.items()):
        bound = [-_known(entry["validation"]["elbo"]) for entry in entries]
        minutes = [entry["seconds"] / 60 for entry in entries]
        epochs = [entry["epoch"] for entry in entries]
        by_epoch.plot(epochs, bound, label=name, marker=_dot(epochs), **style.series(k))
        by_time.plot(minutes, bound, marker=_dot(epochs), **style.series(k))
    by_epoch.set(title="validation −ELBO, nats")
    _by_epoch(by_epoch)
    by_time.set(title="validation −ELBO, nats", xlabel="minutes of training")
    for panel in (by_epoch, by_time):
        _leave_out_the_start(panel)
    by_epoch.legend()
    return made


@style.styled
def kl_heat_map(metrics: Metrics, group_names: Sequence[str], split: str = "validation") -> Figure:
    """Heat map of the KL of every latent group: epochs on x, groups on y.

    Colour scales with the square root, so that 1 nat is visible beside 20.
    """
    kl = np.asarray([entry[split]["kl_per_group"] for entry in metrics], dtype=float).T
    groups, epochs = kl.shape
    made = style.figure(7.2, min(4.0, 0.9 + 0.2 * max(groups, 4)))
    axes = made.subplots()
    last = float(metrics[-1]["epoch"])
    first = last - (last - float(metrics[0]["epoch"])) * epochs / max(epochs - 1, 1)
    first = first if epochs > 1 else last - 1
    image = axes.imshow(
        kl, aspect="auto", origin="lower", cmap=style.HEAT,
        norm=PowerNorm(0.5, 0, kl[:, epochs // 10 :].max() or 1.0),
        extent=(first + 0.5, last + 0.5, -0.5, groups - 0.5),
    )  # fmt: skip
    axes.grid(False)
    shown = range(0, groups, -(-groups // 11))
    axes.set_yticks(shown, [group_names[k] for k in shown])
    _by_epoch(axes)
    made.colorbar(image, ax=axes, label="KL, nats", pad=0.01)
    return made


def _known(value: float | None) -> float:
    """NaN for a value that was not finite, which leaves a gap in the curve."""
    return math.nan if value is None else value


def _by_epoch(axes: Axes) -> None:
    """Label the x axis, with ticks at whole epochs."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


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
