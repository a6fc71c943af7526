"""Drawings from the browser, turned into images for a model: arrays in, arrays out.

A drawing for a grey model of 28 x 28 pixels is treated like the digits of MNIST (LeCun et al.
1998): scaled in proportion so that its longer side is 20 pixels, antialiased, and moved by whole
pixels so that its centre of mass is pixel (14, 14), counted from 0. Other drawings are resized.
"""

import base64
import binascii
import io
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limner.data import Binarization
from limner.data.pixels import bernoulli, dequantized, noise_words, scaled, threshold
from limner.errors import InputError

PREFIX = "data:image/png;base64,"
MAX_CHARACTERS = 2**20
MAX_SIDE = 1024
"""Limit for a drawing from the browser, in pixels."""
MNIST_SHAPE, MNIST_BOX, MNIST_CENTRE = (1, 28, 28), 20, 14
ERASED = 0.25
"""A pixel is missing if at least this share of it was erased."""
UNREADABLE = "The drawing cannot be read; clear it and draw again."

Levels = np.ndarray
"""uint8 [height, width, 3]."""


class Drawing(NamedTuple):
    """The content of an easel in the browser."""

    picture: Levels
    erased: np.ndarray
    """bool [height, width], the size of the picture."""
    fit: bool
    """Whether it was drawn by hand, so that it is scaled and centred."""


def read_drawing(value: Any) -> Drawing | None:
    """The drawing that the page sent, or None if nothing was drawn.

    Raises:
        InputError: it is not two small PNG pictures of the same size.
    """
    if not value:
        return None
    if not isinstance(value, dict):
        raise InputError(UNREADABLE)
    picture = decoded(value.get("picture"))
    if value.get("erased"):
        erased = decoded(value["erased"])[..., 0] >= 128
    else:
        erased = np.zeros(picture.shape[:2], bool)
    if erased.shape != picture.shape[:2]:
        raise InputError(UNREADABLE)
    return Drawing(picture, erased, bool(value.get("fit")))


def decoded(url: Any) -> Levels:
    """The picture in a data URL. A large one is refused before memory is allocated."""
    if not isinstance(url, str) or not url.startswith(PREFIX) or len(url) > MAX_CHARACTERS:
        raise InputError(UNREADABLE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            stream = io.BytesIO(base64.b64decode(url[len(PREFIX) :], validate=True))
            with Image.open(stream, formats=("PNG",)) as image:
                if max(image.size) > MAX_SIDE:
                    raise InputError(UNREADABLE)
                return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, Warning, binascii.Error):
        raise InputError(UNREADABLE) from None


def encoded(levels: Levels) -> str:
    """A picture as a data URL."""
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, "PNG")
    return PREFIX + base64.b64encode(stream.getvalue()).decode("ascii")


def levels_of(drawing: Drawing, image_shape: tuple[int, int, int]) -> Tensor:
    """The drawing in a model's shape, uint8 [1, C, H, W]."""
    if image_shape == MNIST_SHAPE and drawing.fit:
        levels = as_mnist(grey(on_dark_ground(drawing.picture)))[..., None]
    else:
        levels = in_channels(resized(drawing.picture, image_shape[1:]), image_shape[0])
    return torch.from_numpy(np.moveaxis(levels, -1, 0)[None].copy())


def known_pixels(erased: np.ndarray, shape: tuple[int, int]) -> Tensor:
    """Pixels of a model that were not erased, bool [1, 1, H, W]."""
    share = resized(erased.astype(np.uint8) * 255, shape)
    return torch.from_numpy(share < ERASED * 255)[None, None]


def as_mnist(ink: np.ndarray) -> np.ndarray:
    """Grey levels [height, width], light on dark, placed like a digit of MNIST: uint8 [28, 28].

    Black if there is no ink.
    """
    rows, columns = (np.flatnonzero((ink >= 64).any(axis)) for axis in (1, 0))
    field = np.zeros(MNIST_SHAPE[1:], np.uint8)
    if not len(rows):
        return field
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = MNIST_BOX / max(cut.shape)
    height, width = (max(1, round(side * scale)) for side in cut.shape)
    digit = resized(cut, (height, width))
    weights = digit.astype(float) / max(1, digit.sum(dtype=float))
    top = _offset(weights.sum(1), height)
    left = _offset(weights.sum(0), width)
    field[top : top + height, left : left + width] = digit
    return field


def _offset(weights: np.ndarray, length: int) -> int:
    """The start of a side with its centre of mass in the middle, kept inside the field."""
    centre = (weights * np.arange(length)).sum()
    return int(np.clip(round(MNIST_CENTRE - centre), 0, MNIST_SHAPE[1] - length))


def resized(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A picture [height, width, ...] in another (height, width); pixels are means of areas.

    If it becomes larger, pixels are repeated.
    """
    size = (shape[1], shape[0])
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def on_dark_ground(picture: Levels) -> Levels:
    """The picture, or its negative if its border is mostly light, as for ink on paper."""
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return 255 - picture if np.median(border) > 127 else picture


def grey(picture: Levels) -> np.ndarray:
    """Luminance, uint8 [height, width]."""
    return np.asarray(Image.fromarray(picture).convert("L"))


def in_channels(picture: Levels, channels: int) -> np.ndarray:
    """The picture with `channels` channels: one is grey, and those after the third are full."""
    if channels == 1:
        return grey(picture)[..., None]
    extra = np.full((*picture.shape[:2], max(0, channels - 3)), 255, np.uint8)
    return np.concatenate([picture[..., :channels], extra], axis=-1)


def as_seen(levels: Tensor, observation: str, binarization: Binarization | None) -> Tensor:
    """Levels as pixels for the observation: float32 like `levels`.

    Sampled and dequantized pixels are the same at every call.
    """
    if observation.startswith("discretized_logistic"):
        return scaled(levels)
    if observation == "bernoulli" and binarization in ("threshold", "none"):
        return threshold(levels)
    words = noise_words(levels.shape, 0, levels.device)
    return (bernoulli if observation == "bernoulli" else dequantized)(levels, words)
