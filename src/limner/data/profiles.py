"""Colours of an embedded ICC profile as sRGB (ICC.1:2022), and CIELAB as sRGB."""

import io
import struct
from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Literal

import numpy as np

Space = Literal["L", "RGB", "CMYK"]
D50 = np.array([0.9642, 1, 0.8249], np.float32)

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

    Values are uint8, or uint16 up to 65535: the dark parts of linear profiles need all bits. None
    if the profile is sRGB itself, is damaged, or is of another space.
    """
    convert = _conversion(profile, space)
    if convert is None:
        return None
    levels = convert(values)
    equal = space == "RGB" and bool((values == values[:, :, :1]).all())
    if equal and int(np.ptp(levels, axis=2).max()) <= 2:  # greys, up to rounding
        return np.repeat(levels[:, :, 1:2], 3, axis=2)
    return levels


def lab_in_srgb(lab: np.ndarray) -> np.ndarray:
    """Levels [H, W, 3] of CIELAB relative to D50: uint8 L * 2.55, and a and b as int8."""
    levels = np.empty(lab.shape, np.uint8)
    for row, out in zip(lab, levels, strict=True):
        y = (row[:, 0] * np.float32(100 / 255) + 16) / 116
        a, b = row[:, 1].astype(np.int8), row[:, 2].astype(np.int8)
        f = np.stack([y + a / np.float32(500), y, y - b / np.float32(200)], -1)
        xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
        out[:] = _encoded(xyz @ SRGB_FROM_XYZ.T)
    return levels


@lru_cache(maxsize=16)
def _conversion(profile: bytes, space: Space) -> Callable[[np.ndarray], np.ndarray] | None:
    curves, matrix = _curves_and_matrix(profile, space)
    convert = partial(_by_matrix, curves, matrix) if curves else _little_cms(profile, space)
    if convert is None or space == "CMYK":
        return convert
    probe = np.arange(256, dtype=np.uint8)[None]
    if space == "RGB":
        steps = probe[0, ::15]
        probe = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    same = np.abs(convert(probe).astype(int) - probe).max() <= 1
    return None if same else convert


def _little_cms(profile: bytes, space: Space) -> Callable[[np.ndarray], np.ndarray] | None:
    """Conversion of a profile with tables of colours, whose input has 8 bits in Pillow."""
    from PIL import Image, ImageCms

    try:
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(io.BytesIO(profile), srgb, space, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None

    def convert(values: np.ndarray) -> np.ndarray:
        if values.dtype == np.uint16:
            values = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        image = Image.frombytes(space, values.shape[1::-1], values.tobytes())
        shown = np.asarray(ImageCms.applyTransform(image, transform))
        return shown[:, :, 1] if space == "L" else shown

    return convert


# Profiles of curves and a matrix, exactly


def _by_matrix(curves: list[np.ndarray], matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Levels of values [H, W] or [H, W, 3] by a curve per channel and a matrix."""
    if values.dtype == np.uint8:
        curves = [curve[::257] for curve in curves]
    if values.ndim == 2:
        return _encoded(curves[0])[values]
    levels = np.empty(values.shape, np.uint8)
    for row, out in zip(values, levels, strict=True):
        linear = np.stack([curve[row[:, k]] for k, curve in enumerate(curves)], -1)
        out[:] = _encoded(linear @ matrix.T)
    return levels


def _encoded(linear: np.ndarray) -> np.ndarray:
    """Levels of linear sRGB (IEC 61966-2-1)."""
    return _levels()[np.rint(linear.clip(0, 1) * 65535).astype(np.uint16)]


@cache
def _levels() -> np.ndarray:
    linear = np.linspace(0, 1, 65536)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * curve).astype(np.uint8)


def _curves_and_matrix(profile: bytes, space: Space) -> tuple[list[np.ndarray], np.ndarray]:
    """Tables of 65,536 linear values per channel, and linear sRGB from them; empty if not such."""
    matrix = np.eye(3, dtype=np.float32)
    if profile[16:24] not in {"L": (b"GRAYXYZ ",), "RGB": (b"RGB XYZ ",)}.get(space, ()):
        return [], matrix
    try:
        count = struct.unpack_from(">I", profile, 128)[0]
        entries = [struct.unpack_from(">4sII", profile, 132 + 12 * k) for k in range(count)]
        tags = {name: profile[start : start + size] for name, start, size in entries}
        if space == "L":
            return [_curve(tags[b"kTRC"])], matrix
        if b"A2B0" in tags or b"A2B1" in tags:
            return [], matrix
        columns = [struct.unpack_from(">3i", tags[c + b"XYZ"], 8) for c in (b"r", b"g", b"b")]
        matrix = SRGB_FROM_XYZ @ (np.array(columns, np.float32).T / 65536)
        return [_curve(tags[c + b"TRC"]) for c in (b"r", b"g", b"b")], matrix
    except (KeyError, struct.error, ValueError, ZeroDivisionError):
        return [], matrix


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
