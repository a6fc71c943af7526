"""Images step by step: as a GIF, a strip, or a sprite sheet for a web page."""

import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from limner import notebook
from limner.errors import InputError
from limner.figures.grids import labelled_rows
from limner.figures.style import typeset
from limner.pictures import COLOURS, RGB, beside, columns_for, gif, strided, tile

GROUND = (128, 128, 128)
"""The gap between images: differs from black and from white."""
STRIP_STEPS = 16
NOTEBOOK_PIXELS = 2**23
"""Limit on the pixels of all frames in a notebook; a larger film shows fewer images."""


class Film(NamedTuple):
    """`n` images at each of T steps, in one or more panels."""

    panels: tuple[RGB, ...]
    """Magnified images, each [T, n, H, W, 3]."""
    panel_names: tuple[str, ...]
    captions: tuple[str, ...]
    """One per frame."""
    title: str
    caption: str
    alt: str
    unit: str = ""
    """What captions count: steps, frames or layers."""

    @property
    def size(self) -> int:
        return self.panels[0].shape[1]

    def frames(self, columns: int | None = None) -> RGB:
        """One grid of images per step, [T, height, width, 3]; panels are side by side."""
        gap = max(2, self.panels[0].shape[2] // 28)
        columns = columns or columns_for(self.size)
        joined = beside(self.panels, gap=max(1, gap // 2))
        grids = [tile(step, columns, gap, GROUND) for step in joined]
        return np.stack([np.pad(grid, ((gap, gap), (gap, gap), (0, 0)), mode="constant",
                                constant_values=GROUND[0]) for grid in grids])  # fmt: skip

    def __repr__(self) -> str:
        return f"Film({self.title}: {self.size} images, {len(self.captions)} frames)"

    def _repr_html_(self) -> str:
        if not self.size:
            return notebook.page(notebook.title(self.title), notebook.note("no images"))
        pixels = sum(panel[:, 0, ..., 0].size for panel in self.panels)  # of one image
        count = min(self.size, max(1, NOTEBOOK_PIXELS // pixels))
        step = math.ceil(math.sqrt(max(1, pixels / NOTEBOOK_PIXELS)))
        panels = tuple(panel[:, :count, ::step, ::step] for panel in self.panels)
        frames = self._replace(panels=panels).frames()
        shown = notebook.image(gif(frames, every=3), "gif", step * frames.shape[2], self.alt)
        more = f" The first {count} of {self.size} are shown." if count < self.size else ""
        return notebook.page(notebook.title(self.title), shown, notebook.note(self.caption + more))


def save_gif(frames: RGB, path: Path, seconds: float = 3.0, hold: float = 1.5) -> Path:
    """Write frames [T, height, width, 3] as a GIF that repeats forever.

    Args:
        seconds: duration of all steps together.
        hold: extra seconds for the last frame.
    """
    content = gif(frames, seconds, hold)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}).") from None
    return path


def sprite(frames: RGB) -> bytes:
    """Frames stacked in one PNG, the first at the top."""
    count, height, width, _ = frames.shape
    stack = Image.fromarray(frames.reshape(count * height, width, 3))
    stream = io.BytesIO()
    stack.quantize(COLOURS, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def strip(film: Film, images: int = 5, steps: int = STRIP_STEPS) -> Figure:
    """The film as a still figure: one row per image and panel, one column per step.

    Of a film of more than `steps` frames, every second is shown, or every third, and so on.
    """
    chosen = list(strided(len(film.captions), steps))
    rows = []
    for k in range(min(images, film.size)):
        for name, panel in zip(film.panel_names, film.panels, strict=True):
            rows.append((name if len(film.panels) > 1 else "", panel[chosen, k]))
    headings = [typeset(film.captions[t].split(" of ")[0]) for t in chosen]
    return labelled_rows(rows, headings, unit=film.unit)
