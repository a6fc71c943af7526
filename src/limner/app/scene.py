"""What an answer shows: images step by step in panels, as values for the page or as a GIF."""

import base64
from typing import Any, NamedTuple

import numpy as np

from limner.figures.films import GROUND, sprite
from limner.figures.style import READ_RGB, WRITE_RGB
from limner.figures.windows import draw_windows, rectangle
from limner.layers.attention import Window
from limner.pictures import RGB, beside, columns_for, gif, magnify, tile

SIDE = 224
"""Approximate height of a panel of a GIF, in pixels."""
GIF_PIXELS = 2**24
"""Limit for all frames of a GIF together."""
STRIP = 9
"""Frames in a strip."""


class Panel(NamedTuple):
    """`n` images at each of T steps, with a window on each if the model has attention."""

    name: str
    images: RGB
    """In the model's pixels, [T, n, H, W, 3]; T = 1 for images that stay."""
    window: Window | None = None
    """[T, n]."""
    filters: int = 0
    """Filters per side of the window."""
    writes: bool = False
    """Whether it is the writing window rather than the reading window."""

    @property
    def frames(self) -> RGB:
        """The images of a step in a grid, [T, height, width, 3]."""
        return np.stack([tile(step, self.columns, 1, GROUND) for step in self.images])

    @property
    def columns(self) -> int:
        return columns_for(self.images.shape[1])

    def magnified(self, factor: int) -> RGB:
        """Frames in screen pixels with their windows."""
        if self.window is None:
            return magnify(self.frames, factor)
        colour = WRITE_RGB if self.writes else READ_RGB
        images = np.broadcast_to(self.images, (len(self.window.sigma), *self.images.shape[1:]))
        drawn = draw_windows(images, self.window, self.filters, colour, factor, self.writes)
        return np.stack([tile(step, self.columns, factor, GROUND) for step in drawn])

    def boxes(self) -> list[list[list[float]]] | None:
        """Left, top, width, height and line width of the window of each step and image.

        In pixels numbered from 1.
        """
        if self.window is None:
            return None
        left, right, top, bottom, line = rectangle(self.window, self.filters)
        fields = np.stack([left, top, right - left, bottom - top, line], axis=-1)
        return np.nan_to_num(fields).round(2).tolist()

    def value(self) -> dict[str, Any]:
        frames = self.frames
        return {
            "name": self.name,
            "src": data_url("png", sprite(frames)),
            "frames": len(frames),
            "height": frames.shape[1],
            "width": frames.shape[2],
            "image": [self.images.shape[3], self.images.shape[2]],
            "columns": self.columns,
            "boxes": self.boxes(),
            "role": "write" if self.writes else "read",
        }


class Scene(NamedTuple):
    """Panels that change together, and the words beside them."""

    panels: tuple[Panel, ...]
    captions: tuple[str, ...]
    """One per step."""
    alt: str
    caption: str = ""
    said: str = ""
    unit: str = ""
    """What a step is, if it has a KL of its own: a step or a layer."""
    kl: tuple[float, ...] = ()
    """KL of each step in nats."""
    strip: int | None = None
    """The panel that is also shown as a strip, and whose film runs back and forth."""
    plays: bool = True
    """Whether the film starts by itself."""
    ask: dict[str, int] | None = None
    """What was asked for besides the fields of the page."""

    def value(self) -> dict[str, Any]:
        """The scene as the film on the page shows it."""
        last = len(self.captions) - 1
        stops = np.linspace(0, last, min(STRIP, last + 1)).round().astype(int).tolist()
        return self._asdict() | {
            "panels": [panel.value() for panel in self.panels],
            "stops": stops if self.strip is not None else [],
            "ask": self.ask or {},
        }

    def gif(self) -> bytes:
        """All panels side by side, with their windows."""
        pixels = sum(panel.frames[0, ..., 0].size for panel in self.panels) * len(self.captions)
        most = max(1, int((GIF_PIXELS / pixels) ** 0.5))
        height = max(panel.frames.shape[1] for panel in self.panels)
        factor = max(1, min(most, round(SIDE * columns_for(self.size) ** 0.5 / height)))
        shown = [
            panel.magnified(max(1, factor * height // panel.frames.shape[1]))
            for panel in self.panels
        ]
        tallest = max(frames.shape[1] for frames in shown)
        frames = beside([self._fitted(panel, tallest) for panel in shown], gap=factor)
        if self.strip is not None:
            frames = np.concatenate([frames, frames[-2:0:-1]])
        return gif(frames, hold=0 if self.strip is not None else 1.5, every=3)

    @property
    def size(self) -> int:
        return self.panels[0].images.shape[1]

    def _fitted(self, frames: RGB, height: int) -> RGB:
        """Frames as many as there are steps, and of one height."""
        missing = height - frames.shape[1]
        padded = np.pad(frames, ((0, 0), (0, missing), (0, 0), (0, 0)), constant_values=GROUND[0])
        return padded if len(frames) > 1 else padded.repeat(len(self.captions), axis=0)


def data_url(kind: str, content: bytes) -> str:
    """A PNG or GIF as an address that holds it."""
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")
