"""Figures and films for a page, with everything in data URIs."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from limner.figures import depth, style
from limner.figures.depth import Profile
from limner.figures.films import Film, sprite
from limner.figures.gallery import Picture
from limner.figures.panels import panels_of

INDICES = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
SCREEN = 96
"""Pixels of a screen per inch of a figure."""


@dataclass(frozen=True)
class Image:
    src: str
    alt: str
    width: int
    """In pixels, before it is scaled to its place on the page."""


@dataclass(frozen=True)
class ShownPicture:
    """A figure on the page: one image, or one for each of a few panels, which wrap."""

    name: str
    title: str
    caption: str
    images: Sequence[Image]


@dataclass(frozen=True)
class Chart:
    """Nats by depth, with a marker at the step that the film shows."""

    image: Image
    places: list[float]
    """Where the marker is at each step, in per cent of the width."""
    readings: list[str]


@dataclass(frozen=True)
class ShownFilm:
    """A film on the page: one image with all frames in a column, of which one is visible."""

    name: str
    title: str
    caption: str
    image: Image
    captions: tuple[str, ...]
    width: int
    """Largest width on the page, in pixels."""
    ratio: float
    """Width of a frame divided by its height."""
    chart: Chart | None = None

    @property
    def data(self) -> dict[str, Any]:
        """For the script."""
        chart = self.chart
        return {
            "captions": self.captions,
            "places": chart.places if chart else [],
            "readings": chart.readings if chart else [],
        }


def shown(picture: Picture) -> ShownPicture:
    """The figure as SVG that adapts to the reader's colour scheme; curves wrap if it is narrow."""
    images = [
        Image(
            _uri(panel.svg),
            f"{panel.title}. {picture.alt}" if panel.title else picture.alt,
            round(SCREEN * panel.width),
        )
        for panel in panels_of(picture.figure)
    ]
    return ShownPicture(picture.name, picture.title, picture.caption, images)


def shown_film(
    film: Film, name: str, zoom: int = 1, columns: int | None = None, profile: Profile | None = None
) -> ShownFilm:
    """The film as one sprite, which the page shows `zoom` times as large.

    With the `profile` of its model, beside a chart that follows it.
    """
    frames = film.frames(columns)
    src = "data:image/png;base64," + base64.b64encode(sprite(frames)).decode()
    _, height, width, _ = frames.shape
    follows = profile is not None and 1 < len(profile.kl) == len(film.captions)
    made = chart(profile) if profile is not None and follows else None
    means = (
        f"Curve and bars: means over {profile.images:,} test images." if profile and made else ""
    )
    return ShownFilm(
        name,
        film.title,
        f"{film.caption} {means}".strip(),
        Image(src, film.alt, width),
        tuple(_indexed(caption) for caption in film.captions),
        zoom * width,
        round(width / height, 4),
        made,
    )


def _indexed(caption: str) -> str:
    """z_5 as z₅."""
    return re.sub(r"\bz_(\d+)", lambda found: "z" + found[1].translate(INDICES), caption)


def chart(profile: Profile) -> Chart:
    """-ELBO after each step, and the KL of each, for the side of a film."""
    made, count = depth.step_by_step(profile), len(profile.kl)
    places = [round(100 * place, 2) for place in depth.places(made, range(1, count + 1))]
    nats = list(zip(profile.costs, profile.kl, strict=True))
    alt = (
        f"−ELBO after each {profile.unit}, from {nats[0][0]:.1f} nats after the first to "
        f"{nats[-1][0]:.1f} after {count}; bars of the KL of each {profile.unit}."
    )
    readings = [f"−ELBO {cost:.1f} nats, KL of this {profile.unit} {kl:.2f}" for cost, kl in nats]
    width = round(SCREEN * made.get_figwidth())
    return Chart(Image(_uri(style.themed_svg(made, box=None)), alt, width), places, readings)


def _uri(svg: str) -> str:
    # Percent-encoded text is smaller than base64. Slashes are encoded too, so that XML namespaces
    # do not look like addresses on a network.
    return "data:image/svg+xml," + quote(svg, safe=" !$()*+,-.:;=?@[]^_`{|}~")
