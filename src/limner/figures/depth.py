"""Nats per image against depth: with more and more latent groups, of one or of several models.

Depth is the number of latent groups, in the order in which the model draws them: the steps of a
recurrent model, the layers of a hierarchy from the top.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from limner.figures import style

LONG = 16
"""From this depth on, the axis of the depth is logarithmic."""


class Profile(NamedTuple):
    """Nats per image of a model by depth, entry k - 1 for depth k."""

    kl: Sequence[float]
    """KL of each group."""
    costs: Sequence[float]
    """-ELBO with the first k groups."""
    images: int
    """Number of images that the means are over."""
    unit: str
    """The word for a group: step, or layer."""


@style.styled
def nats_by_depth(profiles: Mapping[str, Profile]) -> Figure:
    """-ELBO with the first k groups of each model, and the KL that they have used up."""
    made, (costs, used) = style.panels(2, height=2.8)
    costs.set(title="−ELBO with the first groups, nats")
    used.set(title="KL of the first groups together, nats")
    for index, (name, profile) in enumerate(profiles.items()):
        depths = range(1, len(profile.kl) + 1)
        dot = "o" if len(depths) < LONG else ""
        look = {"marker": dot, "markersize": 4, **style.series(index)}
        costs.plot(depths, profile.costs, label=name, **look)
        used.plot(depths, np.cumsum(profile.kl), label=name, **look)
    deepest = max(len(profile.kl) for profile in profiles.values())
    for panel in (costs, used):
        _by_depth(panel, deepest)
    used.set_ylim(bottom=0)
    costs.legend()
    return made


@style.styled
def step_by_step(profile: Profile) -> Figure:
    """-ELBO after each group above the KL of the group, on one axis of the depth."""
    made = style.figure(4.4, 3.4)
    costs, kl = made.subplots(2, sharex=True, height_ratios=(3, 2))
    depths = range(1, len(profile.kl) + 1)
    costs.plot(depths, profile.costs, color=style.INK, marker="o", markersize=3)
    costs.set(title=f"−ELBO after each {profile.unit}, nats per image")
    kl.bar(depths, profile.kl, color=style.SERIES[0], width=0.7)
    word = "step" if profile.unit == "step" else f"{profile.unit}, from the top"
    kl.set(title=f"KL of each {profile.unit}, nats per image", xlabel=word)
    kl.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    kl.set_xlim(0.4, len(depths) + 0.6)
    return made


def places(made: Figure, depths: Sequence[float]) -> list[float]:
    """Where depths are on the axis of `made`, as shares of its width from the left."""
    made.draw_without_rendering()
    axes = made.axes[-1]
    pixels = axes.transData.transform([(depth, 0.0) for depth in depths])
    return made.transFigure.inverted().transform(pixels)[:, 0].tolist()


def _by_depth(axes: Axes, deepest: int) -> None:
    axes.set_xlabel("latent groups: steps, or layers from the top")
    if deepest < LONG:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
