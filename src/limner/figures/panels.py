"""The panels of a figure as pictures of their own, which a page can put below each other."""

from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from limner.figures import style

MOST = 3
MARGIN = 0.04
"""Inches around a panel."""


class Panel(NamedTuple):
    """A panel as SVG, in the reader's colour scheme. Panels of one figure are equally high."""

    title: str
    svg: str
    width: float
    """In inches."""


def panels_of(made: Figure) -> list[Panel]:
    """The panels of a figure with a few of curves or bars; one for any other figure."""
    panels = made.axes
    if not 1 < len(panels) <= MOST or not all(map(_has_curves, panels)):
        box = made.get_tightbbox()
        return [Panel("", style.themed_svg(made), box.width)]
    made.draw_without_rendering()
    made.set_layout_engine("none")  # panels stay where they are when others are hidden
    boxes = []
    for panel in panels:
        _show_only(panel, panels)
        boxes.append(made.get_tightbbox())
    low, high = min(box.y0 for box in boxes), max(box.y1 for box in boxes)
    found = []
    for panel, box in zip(panels, boxes, strict=True):
        _show_only(panel, panels)
        cut = Bbox.from_extents(box.x0, low, box.x1, high).padded(MARGIN)
        svg = style.themed_svg(made, cut)
        found.append(Panel(panel.get_title(loc="left"), svg, cut.width))
    return found


def _has_curves(panel: Axes) -> bool:
    return bool(panel.get_title(loc="left")) and not panel.images


def _show_only(panel: Axes, panels: list[Axes]) -> None:
    for other in panels:
        other.set_visible(other is panel)
