"""Images brought to one size and to grey or RGB."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from limner.data.config import Fit

GREY = np.array([299, 587, 114], np.uint32)
"""Thousandths of red, green and blue in grey (ITU-R BT.601), as Pillow has them."""


def fitted(picture: np.ndarray, size: tuple[int, int], fit: "Fit") -> np.ndarray:
    """An image, uint8 [H, W] or [H, W, C], at a size (height, width).

    `crop` keeps the largest middle part of the right proportions, `pad` adds black on two sides,
    `stretch` changes the proportions. Resampling is Lanczos over the whole area that becomes one
    pixel, so that patterns finer than a pixel become grey.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    if (height, width) == size:
        return picture
    share = min(height / size[0], width / size[1])
    box = (0.0, 0.0, float(width), float(height))
    inner = size
    if fit == "crop":
        y, x = (height - share * size[0]) / 2, (width - share * size[1]) / 2
        box = (x, y, width - x, height - y)
    elif fit == "pad":
        share = max(height / size[0], width / size[1])
        inner = (max(1, round(height / share)), max(1, round(width / share)))
    image = Image.fromarray(picture).resize((inner[1], inner[0]), Image.Resampling.LANCZOS, box)
    if inner == size:
        return np.asarray(image)
    page = np.zeros((*size, *picture.shape[2:]), np.uint8)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    page[top : top + inner[0], left : left + inner[1]] = np.asarray(image)
    return page


def grey(pictures: np.ndarray) -> np.ndarray:
    """Grey levels, uint8 [...], of RGB levels [..., 3]; equal red, green and blue stay the same."""
    return ((pictures @ GREY + 500) // 1000).astype(np.uint8)


def rgb(pictures: np.ndarray) -> np.ndarray:
    """RGB levels [..., 3] of grey levels [...]."""
    return np.repeat(pictures[..., None], 3, axis=-1)
