"""Pixels of an opened picture in the file's own numbers, all of its bits included."""

import sys
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from limner.data.containers import FORMAT, PHOTOMETRIC, PLANAR, Unreadable, check_tiff
from limner.data.formats import opened
from limner.data.profiles import lab_in_srgb

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

SCALES = {"L;2": 85, "L;4": 17}
"""By what Pillow multiplies grey values of fewer than 8 bits."""


class Samples(NamedTuple):
    """Pixels: 0 is black and `white` is white; None if the file's format does not say.

    `values`: [H, W] grey or [H, W, 3]; `alpha`: [H, W] from 0 to `opaque`, or None.
    `premultiplied`: the values are multiplied by alpha / opaque. `inks`: [H, W, 4] of a CMYK
    picture, whose values are the RGB of ideal inks.
    """

    values: np.ndarray
    white: int | None = 255
    alpha: np.ndarray | None = None
    opaque: int = 255
    premultiplied: bool = False
    inks: np.ndarray | None = None


def decoded(file: IO[bytes], image: "ImageFile") -> Samples:
    """Decodes a picture, which `opened` has opened from `file`."""
    if image.format == "PPM":
        return _anymap(file, image)
    if image.format == "TIFF":
        check_tiff(file, image)
    raw = raw_mode(image)
    if ";16" in raw and image.mode in ("RGB", "RGBA", "CMYK"):
        return _deep(file, image, raw)
    image.load()
    return samples(image, raw)


def raw_mode(image: "Image") -> str:
    """Pillow's name for the pixels in the file, such as RGB;16B; nothing after decoding."""
    tile = getattr(image, "tile", None)
    args: Any = tile[0][3] if tile else ""
    return str(args if isinstance(args, str) else args[0])


NAMES = {
    "1": "1-bit black and white",
    "P": "palette",
    "LAB": "8-bit Lab",
    "F": "32-bit floats",
    "I": "32-bit integers",
    "RGBX": "8-bit RGB",
}


def mode_name(image: "Image") -> str:
    """The kind of pixels in the file, for people; before decoding."""
    raw, base = raw_mode(image), image.mode
    if raw.startswith("LA;"):  # Pillow decodes 16-bit grey with alpha to RGBA
        base = "LA"
    clear = "transparency" in image.info or (len(base) > 1 and base[-1] in "Aa")
    base = base.rstrip("Aa") if clear else base
    grey = base == "L" or base.startswith("I;") or (image.format in ("PNG", "PPM") and base == "I")
    bits = 16 if ";16" in raw or (grey and base != "L") else 8
    if raw in ("L;2", "L;4", "I;12"):
        bits = int(raw[2:])
    name = NAMES.get(base, f"{bits}-bit {base}")
    return f"{f'{bits}-bit grey' if grey else name}{' with transparency' if clear else ''}"


def samples(image: "Image", raw: str = "") -> Samples:
    """The pixels of a decoded picture. `raw`: `raw_mode` before it was decoded."""
    mode = image.mode
    array = np.asarray(image.convert("RGB") if mode in ("YCbCr", "HSV", "RGBX") else image)
    if mode == "LAB":
        found = Samples(lab_in_srgb(array))
    elif mode == "CMYK":
        plain = image.format == "JPEG" and "adobe" not in image.info
        found = _inks(255 - array if plain else array)  # Pillow inverts all, as Adobe's must be
    elif mode in ("P", "PA"):
        found = _painted(image, array)
    elif mode in ("LA", "La", "RGBA", "RGBa"):
        colours = array[:, :, 0] if mode in ("LA", "La") else array[:, :, :3]
        found = Samples(colours, 255, array[:, :, -1], premultiplied=mode in ("La", "RGBa"))
    elif mode == "1":
        found = _keyed(Samples(array.astype(np.uint8), 1), image, 1 / 255)
    elif mode in ("I", "F") or mode.startswith("I;"):
        found = _keyed(_long(image, array, raw), image)
    else:
        found = _keyed(Samples(array), image, SCALES.get(raw, 1))
    return found


def _long(image: "Image", array: np.ndarray, raw: str) -> Samples:
    """Grey of more than 8 bits."""
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;") or image.format == "PNG":
        array, white = array.astype(np.uint16), 4095 if raw == "I;12" else 65535
    else:
        unsigned = image.mode == "I" and image.format == "TIFF" and tags.get(FORMAT, (1,))[0] == 1
        array, white = array.view(np.uint32) if unsigned else array, None
    if tags.get(PHOTOMETRIC) == 0:  # 0 is white, which Pillow heeds up to 8 bits only
        if white is None:
            raise Unreadable("unsupported", "it is a TIFF of numbers of which 0 means white")
        array = (white - array).astype(np.uint16)
    return Samples(array, white)


def _keyed(found: Samples, image: "Image", scale: float = 1) -> Samples:
    """The same with transparency where pixels have the one value that PNG or GIF gives.

    Pillow multiplies values by `scale`, but not the key. Bits of the key that values lack are 0.
    """
    key = np.atleast_1d(np.asarray(image.info.get("transparency", ()), object))
    values = found.values
    if len(key) != (1 if values.ndim == 2 else 3) or not all(isinstance(k, int) for k in key):
        return found
    mask = int((found.white or 0) / scale) if scale >= 1 else 255
    wanted = (key.astype(np.int64) & mask) * scale
    hidden = values == wanted if values.ndim == 2 else (values == wanted).all(axis=2)
    return found._replace(alpha=(~hidden).astype(np.uint8), opaque=1)


def _painted(image: "Image", array: np.ndarray) -> Samples:
    """Colours and transparency of a palette."""
    entries = np.array(image.getpalette("RGBA") or [], np.uint8).reshape(-1, 4)[:256]
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 3] = 255
    palette[: len(entries)] = entries
    key = image.info.get("transparency")
    if isinstance(key, int) and 0 <= key < 256:
        palette[key, 3] = 0
    elif isinstance(key, bytes):
        palette[: len(key), 3] = np.frombuffer(key[:256], np.uint8)
    index, alpha = (array[:, :, 0], array[:, :, 1]) if image.mode == "PA" else (array, None)
    if alpha is None and palette[:, 3].min() < 255:
        alpha = palette[index, 3]
    return Samples(palette[index, :3], 255, alpha)


def _inks(inks: np.ndarray) -> Samples:
    """CMYK with ideal inks: (1 - C)(1 - K), and so on."""
    white = 255 if inks.dtype == np.uint8 else 65535
    paper = white - inks.astype(np.uint32)
    values = np.empty((*inks.shape[:2], 3), inks.dtype)
    for k in range(3):
        values[:, :, k] = (paper[:, :, k] * paper[:, :, 3] + white // 2) // white
    return Samples(values, white, inks=inks)


def _deep(file: IO[bytes], image: "ImageFile", raw: str) -> Samples:
    """Colours, or grey with alpha, of 16 bits a channel.

    Pillow keeps one byte of every two: the high one, or, if it is told the other byte order, the
    low one. So the picture is decoded twice.
    """
    base, order = raw.split(";16")
    if base == "LA":
        array = _as(image, "RGBA").astype(np.uint16)
        grey, alpha = (array[..., k] << 8 | array[..., k + 1] for k in (0, 2))
        return Samples(grey, 65535, alpha, 65535)
    high = _as(image, ";16" + order)
    if getattr(image, "tag_v2", {}).get(PLANAR) == 2 and len(base) > 1:
        return Samples(high)  # libtiff gives no low bytes of channels that are stored apart
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[order]
    again = opened(file, str(image.format))
    array = high.astype(np.uint16) << 8 | _as(again, ";16" + other)
    if image.mode == "CMYK":
        return _inks(array)
    if image.mode == "RGBA":
        return Samples(array[..., :3], 65535, array[..., 3], 65535, base == "RGBa")
    return _keyed(Samples(array, 65535), image)


def _as(image: "ImageFile", raw: str) -> np.ndarray:
    """A picture decoded as `raw`, or with `raw` for the end of its raw modes."""
    for place, tile in enumerate(image.tile):
        args = (tile.args,) if isinstance(tile.args, str) else tile.args or ("",)
        base = "RGBA" if args[0].startswith("RGBa") else args[0].split(";")[0]
        new = base + raw if raw.startswith(";") else raw
        image.tile[place] = tile._replace(
            args=new if isinstance(tile.args, str) else (new, *args[1:])
        )
    image.load()
    return np.asarray(image)


def _anymap(file: IO[bytes], image: "ImageFile") -> Samples:
    """PBM, PGM, PPM and PFM; `white` is the file's maxval."""
    decoder, _, offset, args = image.tile[0]
    colours = 3 if image.mode == "RGB" else 1
    white = args[1] if isinstance(args, tuple) and decoder != "raw" else 255
    if args == "I;16B":
        white = 65535
    if not isinstance(white, int) or decoder == "ppm_plain" or image.mode in ("1", "F"):
        image.load()
        found = samples(image)
        if image.mode in ("1", "F"):
            return found
        full = 65535 if image.mode == "I" else 255
        values = np.rint(found.values / full * white).astype(np.uint16)
    else:
        dtype = np.dtype(">u2" if white > 255 else "u1")
        count = image.width * image.height * colours
        file.seek(offset)
        content = file.read(count * dtype.itemsize)
        if len(content) < count * dtype.itemsize:
            raise Unreadable("truncated", "this PPM file ends too early")
        values = np.minimum(np.frombuffer(content, dtype), white)
        values = values.reshape((image.height, image.width, colours)[: 3 if colours == 3 else 2])
    return Samples(values.astype(np.uint16 if white > 255 else np.uint8), white)
