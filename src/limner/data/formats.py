"""Picture files: what format they have, and how Pillow opens them.

The format is detected from a file's first bytes, never from its name, and only that format's
reader is called, so that Pillow's registry, limits and warnings stay as the host has set them.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from threading import Lock
from typing import IO, TYPE_CHECKING, TypeVar, cast

from limner.data.containers import KEPT, Limited, Unreadable, bare, correct_tiff, ends_early

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

T = TypeVar("T")

MAX_PIXELS = 2**26
"""Limit for one picture."""
MAX_FILE = 2**29
"""Limit for a file in bytes, or for the pixels of a TIFF, which may have many pages."""
MAX_TAGS = 2**26
"""Limit for the tags of a TIFF in bytes."""

READERS = {
    "PNG": ("PIL.PngImagePlugin.PngImageFile",),
    "JPEG": ("PIL.JpegImagePlugin.JpegImageFile",),
    "WebP": ("PIL.WebPImagePlugin.WebPImageFile",),
    "TIFF": ("PIL.TiffImagePlugin.TiffImageFile",),
    "BMP": ("PIL.BmpImagePlugin.BmpImageFile",),
    "GIF": ("PIL.GifImagePlugin.GifImageFile",),
    "PPM": ("PIL.PpmImagePlugin.PpmImageFile",),
    "AVIF": ("PIL.AvifImagePlugin.AvifImageFile", "pillow_avif.AvifImagePlugin.AvifImageFile"),
    "HEIC": ("pillow_heif.HeifImageFile",),
}
"""The classes that read a format; the first that is installed is used."""
PACKAGES = {"AVIF": "pillow-avif-plugin", "HEIC": "pillow-heif"}
PICTURE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".dib"}
    | {".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".heic", ".heif"}
)
"""The suffixes, in lower case, that pictures of these formats usually have."""
STARTS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"8BPS": "Photoshop",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}


def supported(suffix: str) -> bool:
    """Whether files with this suffix, such as .heic, can be read with the installed packages."""
    suffix = suffix.lower()
    kind = {".avif": "AVIF", ".heic": "HEIC", ".heif": "HEIC"}.get(suffix, "PNG")
    return suffix in PICTURE_SUFFIXES and _reader(kind) is not None


def attempted(file: IO[bytes], action: "Callable[[IO[bytes], ImageFile], T]") -> T:
    """`action(file, image)` with the opened, not yet decoded image; or `Unreadable`.

    If it fails on a PNG or JPEG, it is repeated without metadata: text that expands to gigabytes,
    or a damaged comment, is no reason to lose the pixels.
    """
    kind = _format(file)
    if kind == "TIFF":
        file = cast(IO[bytes], Limited(file))
    with _quiet():
        try:
            return action(file, opened(file, kind))
        except Unreadable:
            raise
        except Exception as error:  # Pillow's decoders raise many kinds
            failure = error
        for keep in KEPT.get(kind, ()):
            try:
                copy = io.BytesIO(b"".join(bare(file, kind, keep)))
                return action(copy, opened(copy, kind))
            except Unreadable:
                raise
            except Exception:
                continue
    if ends_early(file, kind) or "truncated" in str(failure) or isinstance(failure, EOFError):
        raise Unreadable("truncated", f"this {kind} file ends too early")
    text = " ".join(str(failure).split())[:200] or type(failure).__name__
    kind_of_failure = "unsupported" if "unknown pixel mode" in text else "damaged"
    raise Unreadable(kind_of_failure, f"its {kind} data cannot be decoded: {text}")


def opened(file: IO[bytes], kind: str) -> "ImageFile":
    """The image at the start of a file, of a size within the limit, before it is decoded."""
    reader = _reader(kind)
    if reader is None:
        package = PACKAGES.get(kind)
        advice = f"; install {package}" if package else ", which Limner does not read"
        raise Unreadable("unsupported", f"it is {kind}{advice}", kind)
    file.seek(0)
    if isinstance(file, Limited):
        file.left = MAX_TAGS
    image = reader(file, "")
    checked(image)
    if isinstance(file, Limited):
        file.left = MAX_FILE
        correct_tiff(image)
    return image


def checked(image: "Image") -> None:
    """Refuses a picture that is larger than the limit."""
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable(
            "too large",
            f"it is too large: {image.width:,} x {image.height:,}, and the limit is "
            f"{MAX_PIXELS:,} pixels per picture",
        )


def _format(file: IO[bytes]) -> str:
    file.seek(0)
    start = file.read(64)
    if not start:
        raise Unreadable("empty", "it is empty")
    kind = format_of(start)
    if kind is None:
        raise Unreadable("not a picture", "it is not a picture of a known format")
    if kind != "TIFF" and file.seek(0, io.SEEK_END) > MAX_FILE:
        raise Unreadable("too large", f"the file is larger than {MAX_FILE / 2**30:.1f} GiB")
    return kind


def format_of(start: bytes) -> str | None:
    """The format of a picture file by its first 64 bytes; None if it is no picture."""
    kind = next((kind for begin, kind in STARTS.items() if start.startswith(begin)), None)
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        kind = "WebP"
    elif start[:2] == b"BM" and start[15:18] == b"\0\0\0":
        kind = "BMP"
    elif start[:1] == b"P" and start[1:2] in b"123456f" and start[2:3].isspace():
        kind = "PPM"
    elif start[4:8] == b"ftyp":
        brands = start[8 : min(64, int.from_bytes(start[:4], "big"))]
        kind = "AVIF" if b"avif" in brands or b"avis" in brands else None
        if any(brand in brands for brand in (b"hei", b"hev", b"mif1")) and kind is None:
            kind = "HEIC"
    return kind


@cache
def _reader(kind: str) -> "Callable[..., ImageFile] | None":
    for path in READERS.get(kind, ()):
        module, _, name = path.rpartition(".")
        try:
            found = import_module(module)
        except ImportError:
            continue
        if getattr(found, "SUPPORTED", True):
            return getattr(found, name)
    return None


# Pillow warns about damage that it survives

_quiet_lock = Lock()
_quiet_depth = 0
_quiet_context: "warnings.catch_warnings | None" = None


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignores warnings that Pillow raises, even if warnings are errors.

    Filters belong to the process: the first of several threads sets them, the last restores them.
    """
    global _quiet_depth, _quiet_context  # noqa: PLW0603
    with _quiet_lock:
        _quiet_depth += 1
        if _quiet_context is None:
            _quiet_context = warnings.catch_warnings()
            _quiet_context.__enter__()
            warnings.filterwarnings("ignore", module="PIL|pillow_heif|pillow_avif")
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if not _quiet_depth and _quiet_context is not None:
                _quiet_context.__exit__(None, None, None)
                _quiet_context = None
