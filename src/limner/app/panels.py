"""Panels of what a model reads and writes: images, glimpses and canvases."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from limner.app.scene import Panel
from limner.figures.scenes import filters
from limner.layers.attention import Windows, filterbank, read
from limner.models import LatentVariableModel, RecurrentModel
from limner.pictures import RGB, magnify, to_rgb

PATCH_SIDE, PATCH_GAP = 8, 4
"""Pixels by which a number of a glimpse is magnified, and between two glimpses."""


def still(name: str, x: Tensor) -> Panel:
    """An image [1, C, H, W] that stays."""
    return Panel(name, to_rgb(x)[None])


def written(
    model: LatentVariableModel,
    name: str,
    canvases: Tensor,
    windows: Windows | None,
    start: int = 0,
) -> Panel:
    """Canvases [T, n, maps, H, W] from step index `start`, with their writing windows."""
    means = torch.stack([model.observe(canvas).mean for canvas in canvases[start:]])
    if windows is None:
        return Panel(name, to_rgb(means))
    window = type(windows.write)(*(field[start:] for field in windows.write))
    return Panel(name, to_rgb(means), window, filters(model)[1], writes=True)


def read_and_written(
    model: RecurrentModel, x: Tensor, canvases: Tensor, windows: Windows | None
) -> tuple[Panel, ...]:
    """The image, with attention its reading windows and the glimpses, and the canvas."""
    canvas = written(model, "canvas", canvases, windows)
    if windows is None or windows.read is None:
        return still("your image", x), canvas
    image = Panel("your image", to_rgb(x)[None], windows.read, filters(model)[0])
    seen, error = glimpses(model, x, canvases, windows)
    patches = [
        to_rgb(seen / seen.abs().max().clamp(min=1e-6)),
        to_rgb(0.5 + 0.5 * error / error.abs().max().clamp(min=1e-6)),
    ]
    return image, Panel("glimpse", stacked(patches)), canvas


def glimpses(
    model: RecurrentModel, x: Tensor, canvases: Tensor, windows: Windows
) -> tuple[Tensor, Tensor]:
    """What the encoder reads of the image and of the error, both [T, 1, C, N, N]."""
    assert windows.read is not None
    channels, height, width = model.image_shape
    before = torch.cat([model.c_0[None], canvases[:-1, 0]])
    drawing = model.observe.drawing(before, channels)[:, None]
    F_y, F_x = filterbank(windows.read, filters(model)[0], (height, width))
    seen, drawn = (
        read(images, F_y, F_x, windows.read.gamma) for images in (x.expand_as(drawing), drawing)
    )
    return seen, seen - drawn


def stacked(patches: Sequence[RGB]) -> RGB:
    """Small pictures [T, 1, N, N, 3] magnified, one below the other."""
    first, *rest = (magnify(patch, PATCH_SIDE) for patch in patches)
    bar = np.full((*first.shape[:2], PATCH_GAP, *first.shape[3:]), 128, np.uint8)
    return np.concatenate([first, *(part for patch in rest for part in (bar, patch))], axis=2)
