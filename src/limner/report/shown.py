"""Figures and films for a page, with everything in data URIs."""

import base64
from dataclasses import dataclass
from urllib.parse import quote

from limner.figures import style
from limner.figures.films import Film, sprite
from limner.figures.gallery import Picture


@dataclass(frozen=True)
class ShownPicture:
    """A figure on the page."""

    name: str
    title: str
    caption: str
    alt: str
    src: str


@dataclass(frozen=True)
class ShownFilm:
    """A film on the page: one image with all frames in a column, of which one is visible."""

    title: str
    caption: str
    alt: str
    src: str
    captions: tuple[str, ...]
    width: int
    height: int
    """`width` and `height` are those of one frame, in pixels."""


def shown(picture: Picture) -> ShownPicture:
    """The figure as SVG that adapts to the reader's colour scheme."""
    # Percent-encoded text is smaller than base64. Slashes are encoded too, so that XML namespaces
    # do not look like addresses on a network.
    svg = quote(style.themed_svg(picture.figure), safe=" !$()*+,-.:;=?@[]^_`{|}~")
    src = f"data:image/svg+xml,{svg}"
    return ShownPicture(picture.name, picture.title, picture.caption, picture.alt, src)


def shown_film(film: Film, columns: int | None = None) -> ShownFilm:
    """The film as one sprite."""
    frames = film.frames(columns)
    src = "data:image/png;base64," + base64.b64encode(sprite(frames)).decode()
    _, height, width, _ = frames.shape
    return ShownFilm(film.title, film.caption, film.alt, src, film.captions, width, height)
