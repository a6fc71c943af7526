"""One picture file as 8-bit levels, as a viewer shows it: upright, in sRGB, on white."""

import hashlib
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from limner.data.containers import Unreadable, png_chunks
from limner.data.formats import (
    MAX_PIXELS,
    PICTURE_SUFFIXES,
    attempted,
    checked,
    supported,
)
from limner.data.profiles import in_srgb
from limner.data.samples import Samples, decoded, mode_name, raw_mode, samples

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

__all__ = [
    "MAX_PIXELS",
    "PICTURE_SUFFIXES",
    "Header",
    "Picture",
    "Unreadable",
    "picture_of",
    "read_header",
    "read_picture",
    "supported",
]

Ends = tuple[float, float]


class Picture(NamedTuple):
    """A picture at its own size.

    `levels`: uint8 [H, W] if red, green and blue are equal everywhere, otherwise [H, W, 3];
    `mode`: the pixels in the file, such as 16-bit RGB with transparency; `peak`: the largest colour
    value in the file, in numbers of `depth` bits (1, 8 or 16), before `ends` are applied;
    `content`: a hash in 32 letters of the pixels alone, the same for any metadata and `ends`.
    """

    levels: np.ndarray
    mode: str
    peak: int
    depth: int
    content: str


class Header(NamedTuple):
    """Size as shown, in pixels, and the pixels in the file, as `Picture.mode`."""

    width: int
    height: int
    mode: str


def read_picture(file: IO[bytes], ends: Ends | None = None) -> Picture:
    """The first picture in a seekable file. Raises `Unreadable`.

    EXIF orientation is applied, an ICC profile converted to sRGB, transparency becomes white, and
    16 bits are rounded to 8. `ends` are the values that mean black and white; if they are not
    given, the format's own. They do not apply to pictures of 1 bit, nor to files of 8 bits if
    they are above 255.
    """

    def read(file: IO[bytes], image: "ImageFile") -> Picture:
        mode = mode_name(image)
        return _picture(image, decoded(file, image), mode, ends)

    return attempted(file, read)


def picture_of(image: "Image", ends: Ends | None = None) -> Picture:
    """The same of a picture that Pillow has opened; colours of 16 bits are as Pillow has them."""
    checked(image)
    mode, raw = mode_name(image), raw_mode(image)
    image.load()
    return _picture(image, samples(image, raw), mode, ends)


def read_header(file: IO[bytes]) -> Header:
    """Size and kind of pixels of a seekable file, without decoding them. Raises `Unreadable`."""
    return attempted(file, _header)


def _header(file: IO[bytes], image: "ImageFile") -> Header:
    mode = mode_name(image)
    if image.format == "PNG":
        place = file.tell()
        names = [name for name, *_ in png_chunks(file)]
        file.seek(place)
        late = names[names.index(b"IDAT") :] if b"IDAT" in names else []
        if _CARRIERS_OF_PNG.intersection(late):  # they are read with the pixels
            image.load()
    tags = getattr(image, "tag_v2", None)  # versions of Pillow differ in the size of a turned TIFF
    width, height = image.size if tags is None else (int(tags[256]), int(tags[257]))
    turned = _orientation(image) > 4
    return Header(*((height, width) if turned else (width, height)), mode)


def _picture(image: "Image", found: Samples, mode: str, ends: Ends | None) -> Picture:
    depth = 1 if found.white == 1 else 8 if found.values.dtype == np.uint8 else 16
    black, white = _ends(found, None if depth == 1 else ends)
    full = white if ends is None else found.white
    peak = found.values.max()
    if full and depth > 1:
        peak = np.rint(peak / full * (2**depth - 1))
    content = _content(found)
    colours = _in_srgb(found, image.info.get("icc_profile"), black, white)
    if colours is not None:
        found, black, white = found._replace(values=colours, premultiplied=False), 0, 255
    levels = _without_colour(_levels(found, black, white))
    return Picture(_upright(levels, _orientation(image)), mode, int(peak), depth, content)


def _content(found: Samples) -> str:
    """A hash of the pixels, before they are turned, and before any profile or range of values."""
    arrays = [found.values, found.alpha]
    if found.values.dtype == np.uint8 and found.white is not None:
        arrays = [_without_colour(_levels(found, 0, found.white))]
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        if array is not None:
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()


def _ends(found: Samples, ends: Ends | None) -> Ends:
    """The values that mean black and white; the visible values must be between them.

    `ends` beyond the numbers of a file are meant for pictures of more bits: they are not used.
    """
    values, white = found.values, found.white
    if ends is not None and white is not None and values.dtype.kind == "u":
        ends = ends if ends[1] <= np.iinfo(values.dtype).max else None
    if ends is None and white is not None:
        return 0, white
    shown = values if found.alpha is None else values[found.alpha > 0]
    low, high = (shown.min(), shown.max()) if shown.size else (0, 0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Unreadable("damaged", "it has values that are not finite")
    text = f"its values are from {low:.6g} to {high:.6g}"
    if ends is None:
        if values.dtype.kind == "f" and low >= 0 and high <= 1:
            return 0, 1
        raise Unreadable(
            "range", f"{text}; give --data.range with the values that mean black and white"
        )
    if low < ends[0] or high > ends[1]:
        raise Unreadable("range", f"{text}, outside --data.range {ends[0]:g} {ends[1]:g}")
    return ends


def _in_srgb(found: Samples, profile: bytes | None, black: float, white: float):
    """Levels of the colours in sRGB; None if they are already."""
    if not profile:
        return None
    if found.inks is not None:
        return in_srgb(found.inks, profile, "CMYK")
    values = found.values
    if found.premultiplied and found.alpha is not None:
        share = found.alpha / found.opaque
        share = share if values.ndim == 2 else share[:, :, None]
        values = np.minimum(values / np.maximum(share, 1e-9), white)
    if (black, white) != (0, 255) or values.dtype != np.uint8:
        unit = (values - np.float32(black)) / np.float32(white - black)
        values = np.rint(unit.clip(0, 1) * np.float32(65535)).astype(np.uint16)
    return in_srgb(values, profile, "L" if values.ndim == 2 else "RGB")


def _levels(found: Samples, black: float, white: float) -> np.ndarray:
    """Values as levels, rounded once, on white."""
    values, alpha = found.values, found.alpha
    if values.dtype == np.uint8 and (black, white) == (0, 255) and alpha is None:
        return values
    levels = np.empty(values.shape, np.uint8)
    exact = np.float32 if values.dtype.itemsize <= 2 else np.float64
    share = None if alpha is None else alpha / np.float32(found.opaque)
    for k in range(1 if values.ndim == 2 else 3):  # one at a time, to save memory
        channel = (values if values.ndim == 2 else values[:, :, k]).astype(exact)
        shown = (channel - exact(black)) / exact(white - black)
        if share is not None:
            shown = (shown if found.premultiplied else shown * share) + 1 - share
        np.rint(shown.clip(0, 1) * 255, out=shown)
        (levels if values.ndim == 2 else levels[:, :, k])[:] = shown
    return levels


def _without_colour(levels: np.ndarray) -> np.ndarray:
    """[H, W] of [H, W, 3] if red, green and blue are equal everywhere."""
    if levels.ndim == 2:
        return levels
    for part in (levels[:1], levels):  # the first row usually decides
        if not (part == part[:, :, :1]).all():
            return levels
    return np.ascontiguousarray(levels[:, :, 0])


TURNS = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""What makes pixels upright, by EXIF orientation."""
_CARRIERS_OF_PNG = frozenset({b"eXIf", b"iTXt", b"zTXt", b"tEXt"})
CARRIERS = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}


def _orientation(image: "Image") -> int:
    """EXIF orientation, 1 to 8; Pillow applies that of a TIFF when it decodes it."""
    if image.format != "TIFF" and not CARRIERS & image.info.keys():
        return 1
    try:
        found = int(image.getexif().get(0x0112, 1))
    except Exception:  # EXIF may hold anything
        return 1
    return found if found in TURNS else 1


def _upright(levels: np.ndarray, orientation: int) -> np.ndarray:
    return np.ascontiguousarray(TURNS.get(orientation, np.asarray)(levels))
