"""Arrays of images as levels, block by block: alpha, size and colour."""

import math
from collections.abc import Iterator, MutableSequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from limner.data.config import DataConfig
from limner.data.dataset import Images, check_size
from limner.data.layouts import Layout, layout_of
from limner.data.numpy_files import FileArray, in_memory
from limner.data.sizing import fitted, grey, rgb
from limner.data.splits import value_digests
from limner.data.stored import Rows
from limner.data.values import DARKEST, as_levels, misfit, too_dark

_AT_ONCE = 2**10
"""Images that are resampled at once."""


def levels_of(array: np.ndarray, where: str, config: DataConfig | None = None) -> Tensor:
    """Uint8 levels [N, C, H, W] of an array of images, with the settings of `config`."""
    config = config or DataConfig()
    layout = layout_of(array.shape, config.shape, where)
    blocks = [levels for levels, _ in blocks_of(in_memory(array, where), layout, config)]
    return torch.from_numpy(np.concatenate(blocks))


def refitted(images: Images, config: DataConfig, where: str) -> Images:
    """`images` in the size and colour of `config`, or themselves if they have these already."""
    channels, height, width = images.levels.shape[1:]
    shape = image_shape(Layout(len(images), (height, width, channels)), config)
    if shape == (channels, height, width):
        return images
    check_size(len(images), math.prod(shape), where)
    levels, start = np.empty((len(images), *shape), np.uint8), 0
    for block in images.levels.split(_AT_ONCE):
        levels[start : start + len(block)] = finished(block.numpy().transpose(0, 2, 3, 1), config)
        start += len(block)
    return replace(images, levels=torch.from_numpy(levels), digests=None)


def images_of(
    rows: Rows, shape: tuple[int, int, int], contents: MutableSequence[np.ndarray] | None = None
) -> Images:
    """The images [C, H, W] in memory; a hash of the numbers of each is added to `contents`."""
    levels, start = np.empty((rows.count, *shape), np.uint8), 0
    for block, values in rows.blocks:
        levels[start : start + len(block)] = block
        if contents is not None:
            contents.append(value_digests(values))
        start += len(block)
    labels = None if rows.labels is None else torch.from_numpy(rows.labels)
    return Images(torch.from_numpy(levels), labels, rows.names)


def image_shape(layout: Layout, config: DataConfig) -> tuple[int, int, int]:
    """The shape (C, H, W) that images of this layout get."""
    height, width = config.height_width or layout.image[:2]
    colour = layout.image[2] > 2 if config.colour == "auto" else config.colour == "rgb"
    return 3 if colour else 1, height, width


def blocks_of(
    array: FileArray, layout: Layout, config: DataConfig
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Uint8 levels [n, C, H, W] and the values [n, H, W, C] that they come from, block by block."""
    peak = 0
    for block in _values(array, layout):
        levels = as_levels(block, config.range, array.text)
        if levels is None:
            raise misfit(_values(array, layout), config.range, array.where)
        peak = max(peak, int(levels[..., : 1 if layout.image[2] < 3 else 3].max()))
        # A number in a text is whole or not depending on the other lines.
        yield finished(levels, config), block.astype(np.float64) if array.text else block
    if (array.dtype == np.uint8 or array.text) and not config.range and 0 < peak <= DARKEST:
        raise too_dark(peak, array.where)


def _values(array: FileArray, layout: Layout) -> Iterator[np.ndarray]:
    """The images [n, H, W, C] of an array with the values that it has, a block at a time."""
    if layout.order == "rows":
        return map(layout.images, array.blocks())
    images = layout.images(array.whole())
    return in_memory(images, array.where).blocks()


def finished(images: np.ndarray, config: DataConfig) -> np.ndarray:
    """Levels [n, C', H', W'] of levels [n, H, W, C]: without alpha, in the size and colour asked.

    Grey stays grey and colour stays colour if `config.colour` is auto.
    """
    images = _on_white(images)
    size = config.height_width
    if size is not None and images.shape[1:3] != size:
        flat = images[..., 0] if images.shape[3] == 1 else images
        images = np.stack([fitted(np.ascontiguousarray(image), size, config.fit) for image in flat])
        images = images.reshape(len(flat), *size, -1)
    if config.colour == "grey" and images.shape[3] == 3:
        images = grey(images)[..., None]
    elif config.colour == "rgb" and images.shape[3] == 1:
        images = rgb(images[..., 0])
    return images.transpose(0, 3, 1, 2)


def _on_white(images: np.ndarray) -> np.ndarray:
    """Images [..., 1 or 3] of images [..., C]: those with alpha, C = 2 or 4, over white."""
    if images.shape[-1] in (1, 3):
        return images
    colours, alpha = images[..., :-1].astype(np.uint32), images[..., -1:].astype(np.uint32)
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
