"""Images as pictures: RGB arrays, tiled, magnified, and encoded as PNG or GIF."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

RGB = np.ndarray
"""uint8 [..., height, width, 3]."""
COLOURS = 128
"""Colours of the palette of several frames."""
MOST = 64
"""Images of a batch that are shown."""
COLUMNS = 8
WIDTH = 704
"""Width of a grid on a page, in screen pixels, unless one image is wider."""
SIDE = 96
"""Largest side to which a small image is magnified, in screen pixels."""
LARGEST = 224
"""Larger images are reduced."""


def to_rgb(images: Tensor | np.ndarray) -> RGB:
    """Images [..., channels, height, width] in [0, 1] as uint8 [..., height, width, 3].

    One channel becomes grey. Two are red and green. Of more, the first three are used.
    """
    levels = np.moveaxis(to_levels(images), -3, -1)
    channels = levels.shape[-1]
    if channels == 1:
        return np.repeat(levels, 3, axis=-1)
    if channels == 2:
        return np.concatenate([levels, np.zeros_like(levels[..., :1])], axis=-1)
    return np.ascontiguousarray(levels[..., :3])


def to_levels(images: Tensor | np.ndarray) -> np.ndarray:
    """Images in [0, 1] as uint8 of the same shape."""
    array = images.detach().cpu().float().numpy() if isinstance(images, Tensor) else images
    return np.rint(np.clip(np.nan_to_num(array), 0, 1) * 255).astype(np.uint8)


def magnify(images: RGB, factor: int) -> RGB:
    """Images [..., height, width, colours] with each pixel repeated `factor` x `factor` times."""
    return images.repeat(factor, axis=-3).repeat(factor, axis=-2)


def columns_for(count: int) -> int:
    """Columns of a nearly square grid of `count` images, at least as many as rows."""
    return max(1, int(np.ceil(np.sqrt(count))))


def strided(count: int, at_most: int) -> range:
    """At most `at_most` indices of range(count), at equal distances, with the last.

    All of 16, or numbers 2, 4, ... 32 of 32 if counted from 1.
    """
    stride = max(1, -(-count // at_most))
    return range((count - 1) % stride, count, stride)


def tile(
    images: RGB, columns: int, gap: int = 1, background: Sequence[int] = (0, 0, 0, 0)
) -> np.ndarray:
    """Images [n, height, width, 3] in a grid of `columns`, row by row, `gap` pixels apart.

    The result is [rows (height + gap) - gap, columns (width + gap) - gap, len(background)]. With
    the default background of four numbers, gaps and empty cells are transparent.
    """
    n, height, width, _ = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    colours = len(background)
    out = np.empty((rows * (height + gap) - gap, columns * (width + gap) - gap, colours), np.uint8)
    out[:] = np.asarray(background, np.uint8)
    for k in range(n):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        place = out[top : top + height, left : left + width]
        place[..., :3] = images[k]
        place[..., 3:] = 255
    return out


def beside(panels: Sequence[RGB], gap: int = 1, level: int = 128) -> RGB:
    """Panels of images [..., height, width, 3], joined left to right with grey gaps."""
    bar = np.full((*panels[0].shape[:-2], gap, 3), level, np.uint8)
    parts = [part for panel in panels for part in (bar, panel)][1:]
    return np.concatenate(parts, axis=-2)


class Grid(NamedTuple):
    """Images of a batch in a grid, and the number by which it is to be magnified."""

    tiled: np.ndarray
    """uint8 RGBA; gaps are transparent."""
    factor: int
    shown: int
    """Images in the grid, the first of the batch."""

    def magnified(self) -> np.ndarray:
        """The grid in screen pixels."""
        return magnify(self.tiled, self.factor)


def grid(images: Tensor, columns: int | None = None) -> Grid:
    """At most 64 of `images` [n, channels, height, width], n > 0, in a size that can be read.

    Images above 224 pixels are reduced; factor 3 brings 28 x 28 pixels to 84 on the screen.
    """
    images = images[:MOST].detach().cpu().float()
    side = max(images.shape[-2:])
    if side > LARGEST:
        images = F.avg_pool2d(images, min(-(-side // LARGEST), *images.shape[-2:]))
        side = max(images.shape[-2:])
    columns = columns or max(1, min(COLUMNS, len(images), WIDTH // (side + 1)))
    factor = max(1, min(SIDE // side, WIDTH // (columns * (side + 1))))
    return Grid(tile(to_rgb(images), columns), factor, len(images))


def png(picture: np.ndarray) -> bytes:
    """A uint8 RGB or RGBA array as PNG."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def indexed(frames: RGB, every: int = 1) -> list[Image.Image]:
    """Frames that share one palette of at most 128 colours.

    Args:
        every: the palette is chosen from every so many pixels of a row and column; 3 is six times
            as fast as 1.
    """
    count, height, width, _ = frames.shape
    stack = Image.fromarray(frames.reshape(count * height, width, 3))
    if every == 1:
        stack = stack.quantize(COLOURS, dither=Image.Dither.NONE)
    else:
        some = frames[:, ::every, ::every]
        some = Image.fromarray(np.ascontiguousarray(some.reshape(-1, *some.shape[2:])))
        palette = some.quantize(COLOURS, dither=Image.Dither.NONE)
        stack = stack.quantize(palette=palette, dither=Image.Dither.NONE)
    return [stack.crop((0, k * height, width, (k + 1) * height)) for k in range(count)]


def gif(frames: RGB, seconds: float = 3.0, hold: float = 1.5, every: int = 1) -> bytes:
    """Frames [T, height, width, 3] as a GIF that repeats forever.

    Args:
        seconds: duration of all steps together.
        hold: extra seconds for the last frame.
        every: as in `indexed`.
    """
    # GIF stores hundredths of a second, and browsers slow down frames shorter than two.
    each = max(20, round(1000 * seconds / len(frames) / 10) * 10)
    first, *rest = _changes(indexed(frames, every))
    durations = [each] * len(rest) + [each + round(1000 * hold)]
    stream = io.BytesIO()
    first.save(
        stream, "GIF", save_all=True, append_images=rest, duration=durations, loop=0,
        optimize=False, transparency=COLOURS,
    )  # fmt: skip
    return stream.getvalue()


def _changes(frames: list[Image.Image]) -> list[Image.Image]:
    """The first frame, and the pixels that change in the others; the rest of them is transparent.

    Pillow's `optimize` does the same through lists of Python integers, ten times as slowly.
    """
    levels = np.stack([np.asarray(frame) for frame in frames])
    levels[1:][levels[1:] == levels[:-1]] = COLOURS
    palette = frames[0].getpalette() or []
    changed = [Image.fromarray(level) for level in levels]
    for frame in changed:
        frame.putpalette(palette + [0] * (768 - len(palette)))
    return changed
