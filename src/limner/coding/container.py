"""The file: a header in JSON, the stack of bits, and a checksum of both.

    "LMNR", version (1 byte), length of the header (4 bytes)
    header      JSON, compressed by zlib
    stack       words of 4 bytes
    checksum    16 bytes, BLAKE2b of all before

All numbers are little-endian.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from limner.coding.coder import stream
from limner.coding.grids import FINEST, MOST
from limner.errors import InputError
from limner.settings import MAX_JSON, Settings

MAGIC, VERSION = b"LMNR", 1
_FIXED = struct.Struct("<4sBI")
CHECKSUM = 16
"""Bytes."""
WORD = 32
"""Bits."""
BATCH = 64
"""Images that are coded together at most."""
DAMAGED = "The compressed images are damaged or cut off; get the file again."

Count = Annotated[int, Field(gt=0, lt=2**31)]
Log2Step = Annotated[int, Field(ge=FINEST, le=8)]
Log2Spread = Annotated[int, Field(ge=-64, le=64)]


class Header(Settings):
    """What is needed to decode a stack."""

    model: str
    """Digest of the model."""
    shape: tuple[Count, Count, Count]
    """Channels, height, width."""
    images: Count
    batches: tuple[Annotated[int, Field(gt=0, le=BATCH)], ...] = ()
    """Images that are coded together, in turn, of a lossless file."""
    grids: tuple[tuple[tuple[Log2Step, ...], Annotated[int, Field(gt=0, le=MOST)]], ...] = ()
    """The `Grid` of each latent group, of a lossless file."""
    initial: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Words of random bits that the stack started from."""
    kept: tuple[
        tuple[tuple[Log2Step, ...], tuple[Log2Spread, ...], Annotated[int, Field(gt=0, le=MOST)]],
        ...,
    ] = ()
    """The `Kept` of each group that is kept, of a lossy file."""
    about: dict[str, Any] = Field(default_factory=dict)
    """Where the images come from."""


class Sizes(NamedTuple):
    """What the bits of a file are."""

    images: int
    bits: int
    """Of the stack, without the initial bits."""
    initial: int
    """Random bits that the stack started from."""
    other: int
    """Header and checksum."""


def check_about(about: Mapping[str, Any]) -> None:
    """Refuse what has no place in a header, before anything is computed."""
    try:
        size = len(json.dumps(dict(about)).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"about must have a form in JSON ({error}).") from None
    if size > MAX_JSON // 2:
        raise InputError(
            f"What to remember of the images takes {size / 2**20:.1f} MiB, of 2 at most; give less."
        )


def packed(header: Header, words: np.ndarray) -> bytes:
    """A file with a header and 32-bit words."""
    text = zlib.compress(header.model_dump_json(exclude_defaults=True).encode(), 9)
    body = _FIXED.pack(MAGIC, VERSION, len(text)) + text + words.astype("<u4").tobytes()
    return body + hashlib.blake2b(body, digest_size=CHECKSUM).digest()


def unpacked(data: bytes) -> tuple[Header, np.ndarray]:
    """The header and the words of a file.

    Raises:
        InputError: it is not such a file, of another version, or damaged.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InputError(f"Compressed images are bytes; got {type(data).__name__}.")
    data = bytes(data)
    if len(data) < _FIXED.size or data[: len(MAGIC)] != MAGIC:
        raise InputError("This is not a file of compressed images of Limner; give such a file.")
    _, version, length = _FIXED.unpack_from(data)
    if version != VERSION:
        raise InputError(
            f"These compressed images have version {version}, and this Limner reads {VERSION}; "
            "use the Limner that wrote them."
        )
    body, checksum = data[:-CHECKSUM], data[-CHECKSUM:]
    end = _FIXED.size + length
    sound = hashlib.blake2b(body, digest_size=CHECKSUM).digest() == checksum
    if not sound or end > len(body) or (len(body) - end) % 4:
        raise InputError(DAMAGED)
    return _header(body[_FIXED.size : end]), np.frombuffer(body[end:], "<u4").astype(np.uint32)


def _header(text: bytes) -> Header:
    try:
        unpacking = zlib.decompressobj()
        values = json.loads(unpacking.decompress(text, MAX_JSON))
        if not unpacking.eof:
            raise ValueError
        return Header.parse(values)
    except (zlib.error, ValueError, RecursionError):  # a sound checksum: not written by Limner
        raise InputError(DAMAGED) from None


def stack_of(words: np.ndarray) -> Any:
    """A stack of words."""
    try:
        return stream.stack.AnsCoder(words)
    except ValueError:  # its last word is zero
        raise InputError(DAMAGED) from None


def sizes(data: bytes) -> Sizes:
    """The bits of a file.

    Raises:
        InputError: it is not a sound file.
    """
    header, words = unpacked(data)
    stack, initial = WORD * len(words), WORD * header.initial
    return Sizes(header.images, stack - initial, initial, 8 * len(data) - stack)
