"""Colours of an embedded ICC profile as sRGB (ICC.1:2022), and CIELAB as sRGB."""

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

Space = Literal["L", "RGB", "CMYK", "LAB"]

SRGB_FROM_XYZ = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ],
    np.float32,
)
"""Linear sRGB from XYZ relative to D50, ICC's white (Lindbloom, Bradford adaptation)."""


def in_srgb(values: np.ndarray, profile: bytes, space: Space) -> np.ndarray | None:
    """Levels [H, W] or [H, W, 3] in sRGB of values [H, W], [H, W, 3] or [H, W, 4] in a profile.

    Values are uint8, or uint16 up to 65535, whose rounding to 8 bits would show in dark parts of
    linear profiles. None if the profile is sRGB itself, is damaged, or is of another space.
    """
    transform = _transform(profile, space)
    if transform is None:
        return None
    deep = _curves_and_matrix(profile) if values.dtype == np.uint16 else None
    if deep is not None and space != "CMYK":
        return _by_matrix(values, *deep)
    if values.dtype == np.uint16:
        values = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    levels = _apply(transform, values, space)
    if space == "L":
        return levels[:, :, 1]
    equal = space == "RGB" and bool((values == values[:, :, :1]).all())
    if equal and int(np.ptp(levels, axis=2).max()) <= 2:  # greys, up to rounding
        return np.repeat(levels[:, :, 1:2], 3, axis=2)
    return levels


def lab_in_srgb(lab: np.ndarray) -> np.ndarray:
    """Levels [H, W, 3] of CIELAB (D50) as Pillow stores it."""
    transform = _transform(b"", "LAB")
    assert transform is not None
    return _apply(transform, lab, "LAB")


@lru_cache(maxsize=16)
def _transform(profile: bytes, space: Space) -> "ImageCmsTransform | None":
    import io

    from PIL import ImageCms

    source = ImageCms.createProfile("LAB") if space == "LAB" else io.BytesIO(profile)
    try:
        made = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), space, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if space in ("L", "RGB"):
        steps = np.arange(0, 256, 15, dtype=np.uint8)
        cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
        probe = cube if space == "RGB" else np.arange(256, dtype=np.uint8)[None]
        shown = _apply(made, probe, space).astype(int)
        if abs(shown - (probe if space == "RGB" else probe[..., None])).max() <= 1:
            return None
    return made


def _apply(transform: "ImageCmsTransform", values: np.ndarray, space: Space) -> np.ndarray:
    from PIL import Image, ImageCms

    height, width = values.shape[:2]
    image = Image.frombytes(space, (width, height), np.ascontiguousarray(values).tobytes())
    return np.asarray(ImageCms.applyTransform(image, transform))


# 16 bits, which Pillow's interface to LittleCMS cannot take


def _by_matrix(values: np.ndarray, curves: list[np.ndarray], matrix: np.ndarray) -> np.ndarray:
    """Levels of uint16 values by a curve per channel and a matrix to linear sRGB."""
    levels = np.empty(values.shape, np.uint8)
    for row, out in zip(values, levels, strict=True):
        if values.ndim == 2:
            out[:] = _encoded(curves[0][row])
        else:
            linear = np.stack([curve[row[:, k]] for k, curve in enumerate(curves)], -1)
            out[:] = _encoded(linear @ matrix.T)
    return levels


def _encoded(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * curve).astype(np.uint8)


@lru_cache(maxsize=4)
def _curves_and_matrix(profile: bytes) -> tuple[list[np.ndarray], np.ndarray] | None:
    """Tables of 65,536 linear values per channel, and linear sRGB from them; None if not such."""
    try:
        count = struct.unpack_from(">I", profile, 128)[0]
        entries = [struct.unpack_from(">4sII", profile, 132 + 12 * k) for k in range(count)]
        tags = {name: profile[start : start + size] for name, start, size in entries}
        if profile[16:20] == b"GRAY":
            return [_curve(tags[b"kTRC"])], np.eye(1, dtype=np.float32)
        if b"A2B0" in tags or b"A2B1" in tags or profile[20:24] != b"XYZ ":
            return None
        columns = [struct.unpack_from(">3i", tags[c + b"XYZ"], 8) for c in (b"r", b"g", b"b")]
        matrix = SRGB_FROM_XYZ @ (np.array(columns, np.float32).T / 65536)
        return [_curve(tags[c + b"TRC"]) for c in (b"r", b"g", b"b")], matrix
    except (KeyError, struct.error, ValueError):
        return None


def _curve(tag: bytes) -> np.ndarray:
    """The tone curve of `curv` and `para` tags at 65,536 steps (ICC.1, 10.6 and 10.18)."""
    x = np.linspace(0, 1, 65536)
    if tag[:4] == b"curv":
        count = struct.unpack_from(">I", tag, 8)[0]
        if count == 0:
            return x.astype(np.float32)
        points = np.frombuffer(tag, ">u2", count, 12)
        if count == 1:
            return (x ** (points[0] / 256)).astype(np.float32)
        return np.interp(x, np.linspace(0, 1, count), points / 65535).astype(np.float32)
    if tag[:4] != b"para":
        raise ValueError("neither curv nor para")
    kind = struct.unpack_from(">H", tag, 8)[0]
    size = (1, 3, 4, 5, 7)[min(kind, 4)]
    values = np.array(struct.unpack_from(f">{size}i", tag, 12)) / 65536
    gamma, a, b, c, d, e, f = 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    gamma, a, b, c, d, e, f = (*values, *(gamma, a, b, c, d, e, f)[size:])
    if kind in (1, 2):
        d, e, f, c = -b / a, c, c, 0.0
    power = np.maximum(a * x + b, 0) ** gamma + e
    return np.where(x >= d, power, c * x + f).clip(0, 1).astype(np.float32)
