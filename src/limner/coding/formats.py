"""Lossy picture formats, for comparison: many images in one sheet, at falling quality."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limner.coding.depth import Point
from limner.pictures import RGB, columns_for, tile, to_rgb

QUALITIES = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90)
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"optimize": True},
    "WebP": {"method": 6},
}
"""Names, and settings for the smallest files."""


def by_quality(x: Tensor, name: str) -> list[Point]:
    """Images [n, C, H, W] in a format that FORMATS names, the smallest file first.

    The `kept` of a point is the quality.
    """
    images, columns = to_rgb(x), columns_for(len(x))
    sheet = Image.fromarray(tile(images, columns, gap=0, background=(0, 0, 0)))
    sheet = sheet.convert("L") if x.shape[1] == 1 else sheet
    found = []
    for quality in QUALITIES:
        stream = io.BytesIO()
        sheet.save(stream, name, quality=quality, **FORMATS[name])
        size = 8 * stream.tell() / len(x)
        seen = np.asarray(Image.open(stream).convert("RGB"))
        cut = np.stack(list(_cut(seen, images, columns))).transpose(0, 3, 1, 2)[:, : x.shape[1]]
        found.append(Point(quality, size, torch.from_numpy(cut / 255)))
    return sorted(found, key=lambda point: point.bits)


def _cut(sheet: RGB, images: RGB, columns: int) -> Iterator[RGB]:
    """The images in a sheet."""
    count, height, width, _ = images.shape
    for k in range(count):
        top, left = k // columns * height, k % columns * width
        yield sheet[top : top + height, left : left + width]
