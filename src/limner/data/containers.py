"""Parts of picture files: chunks of PNG, segments of JPEG, tags of TIFF."""

import io
import struct
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

PHOTOMETRIC, OFFSETS, COUNTS, PLANAR, FORMAT = 262, (273, 324), (279, 325), 284, 339
"""Tags of TIFF."""


class Unreadable(Exception):
    """A file whose pixels cannot be had; `str()` is the reason, in a few words.

    `kind` is "empty", "truncated", "damaged", "not a picture", "unsupported" (a format or a kind of
    pixels), "too large", or "range" (the values need another `--data.range`). `format` is that of
    the file, if Limner does not read it.
    """

    def __init__(self, kind: str, reason: str, format: str = ""):
        super().__init__(kind, reason)
        self.kind, self.format = kind, format

    def __str__(self) -> str:
        return self.args[1]


class Limited:
    """A file of which no more than `left` bytes are read: lengths in headers may be anything."""

    def __init__(self, file: IO[bytes]):
        self._file, self.left = file, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """As the file's own; `Unreadable` at the limit."""
        wanted = self.left + 1 if size < 0 else min(size, self.left + 1)
        content = self._file.read(wanted)
        self.left -= len(content)
        if self.left < 0:
            raise Unreadable("too large", "more of the file would be read than a picture can need")
        return content


KEPT = {
    "PNG": (
        (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"eXIf"),
        (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"),
    ),
    "JPEG": ((b"Adobe", b"ICC_PROFILE", b"Exif"), (b"Adobe",)),
}
"""What the second and the third attempt keep: chunks of PNG, application segments of JPEG."""


def bare(file: IO[bytes], kind: str, keep: tuple[bytes, ...]) -> Iterator[bytes]:
    """The pieces of a PNG or JPEG file without its metadata but what is in `keep`."""
    file.seek(0)
    yield file.read(8 if kind == "PNG" else 2)
    if kind == "PNG":
        for name, place, length in png_chunks(file):
            if name in keep:
                file.seek(place - 8)
                yield file.read(length + 12)
        return
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != 0xDA:
        if head[1] == 0xFF:
            file.seek(-3, io.SEEK_CUR)
            continue
        body = file.read(max(0, int.from_bytes(head[2:], "big") - 2))
        about = 0xE0 <= head[1] <= 0xEF or head[1] == 0xFE
        if not about or body.startswith(keep):
            yield head + body
    yield head + file.read()


def png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Name, place of the data and its length of every chunk of a PNG file, without reading it."""
    place = file.seek(8)
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        yield name, place + 8, length
        place = file.seek(place + length + 12)


def ends_early(file: IO[bytes], kind: str) -> bool:
    """Whether the file has no end, or is shorter than its header says."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(16)
    file.seek(max(0, size - 1024))
    end = file.read()
    order = "big" if start[:2] == b"MM" else "little"
    if kind == "PNG":
        return not any(name == b"IEND" for name, *_ in png_chunks(file))
    if kind == "JPEG":
        return b"\xff\xd9" not in end
    if kind == "GIF":
        return b";" not in end[-2:]
    if kind == "WebP":
        return int.from_bytes(start[4:8], "little") + 8 > size
    if kind == "BMP":
        return int.from_bytes(start[2:6], "little") > size
    return kind == "TIFF" and int.from_bytes(start[4:8], order) >= size


def check_tiff(file: IO[bytes], image: "ImageFile") -> None:
    """Refuses what Pillow would decode without an error, but wrongly."""
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(254, 0) & 1:
        raise Unreadable("unsupported", "its first picture is a preview, as in camera raw files")
    size, packed = file.seek(0, io.SEEK_END), image.tile[0].codec_name == "libtiff"
    for offsets, counts in zip(OFFSETS, COUNTS, strict=True):
        if packed and offsets in tags and counts in tags:
            ends = [a + b for a, b in zip(tags[offsets], tags[counts], strict=False)]
            if max(ends, default=0) > size:
                raise Unreadable("truncated", "this TIFF file ends too early")
    whole = sum(tags.get(COUNTS[0], ())) == 3 * image.width * image.height
    if tags.get(PHOTOMETRIC) == 6 and image.tile[0].codec_name == "raw" and not whole:
        raise Unreadable("unsupported", "it is a TIFF of YCbCr with subsampling, uncompressed")


def correct_tiff(image: "ImageFile") -> None:
    """Corrects how Pillow reads YCbCr, and 16-bit channels stored apart, without compression."""
    tags: Any = getattr(image, "tag_v2", {})
    apart = tags.get(PLANAR) == 2 and max(tags.get(258, (8,))) == 16
    order = "L" if getattr(tags, "prefix", b"II") == b"II" else "B"
    for place, tile in enumerate(image.tile):
        band, *more = tile.args if isinstance(tile.args, tuple) else ("",)
        if tile.codec_name == "raw" and apart and band in ("R", "G", "B"):
            image.tile[place] = tile._replace(args=(f"{band};16{order}", *more))
        if tile.codec_name == "raw" and tags.get(PHOTOMETRIC) == 6 and band == "RGBX":
            image.tile[place] = tile._replace(args=("YCbCr", *more))
            image._mode = "YCbCr"
