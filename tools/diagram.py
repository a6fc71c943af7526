"""Draw docs/images/space-and-time.svg: where a VAE, a Ladder VAE and DRAW have latent groups.

    python -m tools.diagram

A colour stands for one set of weights. Arrows show generation.
"""

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch

FILE = Path(__file__).parents[1] / "docs" / "images" / "space-and-time.svg"
WEIGHTS = ("#cc79a7", "#f0e442", "#009e73")
INK = "#222222"
RADIUS = 0.36
Place = tuple[float, float]


def latent(axes: Axes, place: Place, name: str, colour: str) -> None:
    axes.add_patch(Circle(place, RADIUS, facecolor=colour, edgecolor=INK, linewidth=1))
    axes.text(*place, name, ha="center", va="center", fontsize=12, color=INK)


def image(axes: Axes, place: Place, name: str) -> None:
    corner = (place[0] - RADIUS, place[1] - RADIUS)
    box = FancyBboxPatch(
        corner, 2 * RADIUS, 2 * RADIUS, "round,pad=0,rounding_size=0.08",
        facecolor="white", edgecolor=INK, linewidth=1,
    )  # fmt: skip
    axes.add_patch(box)
    axes.text(*place, name, ha="center", va="center", fontsize=12, color=INK)


def arrow(axes: Axes, start: Place, end: Place) -> None:
    """From the edge of one shape to the edge of the next, along an axis."""
    (x, y), (to_x, to_y) = start, end
    length = abs(to_x - x) + abs(to_y - y)
    x_part, y_part = ((to_x - x) / length * (RADIUS + 0.05), (to_y - y) / length * (RADIUS + 0.05))
    axes.annotate(
        "",
        xy=(to_x - x_part, to_y - y_part),
        xytext=(x + x_part, y + y_part),
        arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1, "shrinkA": 0, "shrinkB": 0},
    )


def column(axes: Axes, x: float, names: list[str], colours: tuple[str, ...]) -> None:
    """Latent groups one above another, and the image below them."""
    places = [(x, 1.2 * k) for k in range(len(names), -1, -1)]
    for above, below in pairwise(places):
        arrow(axes, above, below)
    for place, name, colour in zip(places, names, colours, strict=False):
        latent(axes, place, name, colour)
    image(axes, places[-1], "$x$")


def steps(axes: Axes, x: float, times: list[str]) -> None:
    """A latent group per step, each of which changes the canvas."""
    canvas = (x, 0.0)
    image(axes, canvas, "$c_0$")
    for k, t in enumerate(times, start=1):
        place = (x + 1.35 * k, 0.0)
        arrow(axes, canvas, place)
        if t == r"\dots":
            axes.text(*place, r"$\dots$", ha="center", va="center", fontsize=14, color=INK)
        else:
            above = (place[0], 1.2)
            arrow(axes, above, place)
            latent(axes, above, f"$z_{t}$", WEIGHTS[0])
            image(axes, place, f"$c_{t}$")
        canvas = place
    end = (canvas[0] + 1.35, 0.0)
    arrow(axes, canvas, end)
    image(axes, end, "$x$")


def caption(axes: Axes, x: float, title: str, text: str) -> None:
    axes.text(x, 5.1, title, ha="center", va="center", fontsize=12, weight="bold", color=INK)
    axes.text(x, 4.45, text, ha="center", va="center", fontsize=9.5, color=INK)


def diagram() -> None:
    _, axes = plt.subplots(figsize=(8.4, 3.6), layout="constrained", facecolor="white")
    caption(axes, 0.0, "VAE", "one latent group")
    column(axes, 0.0, ["$z$"], WEIGHTS)
    own = "one group per layer,\neach with its own weights"
    shared = "one group per step,\nall steps share their weights"
    caption(axes, 3.3, "Ladder VAE: depth in space", own)
    column(axes, 3.3, ["$z_3$", "$z_2$", "$z_1$"], WEIGHTS)
    caption(axes, 9.5, "DRAW: depth in time", shared)
    steps(axes, 6.1, ["1", "2", r"\dots", "T"])
    axes.set(xlim=(-1.1, 13.5), ylim=(-0.5, 5.4), aspect="equal")
    axes.set_axis_off()
    with mpl.rc_context({"svg.hashsalt": "limner", "svg.fonttype": "path"}):
        plt.savefig(FILE, metadata={"Date": None})


if __name__ == "__main__":
    diagram()
