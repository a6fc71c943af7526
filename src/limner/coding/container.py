"""The file: a header in JSON, the stack of bits, and a checksum of both."""

import hashlib
import json
import struct
import zlib
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from limner.coding.grids import MOST
from limner.errors import InputError
from limner.settings import Settings

MAGIC, VERSION = b"LMNR", 1
_FIXED = struct.Struct("<4sBI")
"""Magic, version, length of the header."""
CHECKSUM = 16
"""Bytes."""

Log2 = Annotated[int, Field(ge=-64, le=64)]
Number = Annotated[int, Field(gt=0, le=MOST)]
Count = Annotated[int, Field(gt=0, lt=2**31)]


class Header(Settings):
    """What is needed to decode a stack."""

    model: str
    """Digest of the model's config, image shape and weights."""
    shape: tuple[Count, Count, Count, Count]
    """Images, channels, height, width."""
    batch: Count
    """Images that are coded together."""
    grids: tuple[tuple[tuple[Log2, ...], Number, Number], ...]
    """The `Grid` of each latent group."""
    initial: Annotated[int, Field(ge=0, lt=2**31)]
    """Words of random bits that the stack started from."""
    threads: Count
    """Threads of torch."""
    about: dict[str, Any] = {}
    """Where the images come from."""


def packed(header: Header, words: np.ndarray) -> bytes:
    """A file with a header and 32-bit words."""
    text = zlib.compress(header.model_dump_json().encode(), 9)
    body = _FIXED.pack(MAGIC, VERSION, len(text)) + text + words.astype("<u4").tobytes()
    return body + hashlib.blake2b(body, digest_size=CHECKSUM).digest()


def unpacked(data: bytes) -> tuple[Header, np.ndarray]:
    """The header and the words of a file.

    Raises:
        InputError: it is not such a file, of another version, or damaged.
    """
    if len(data) < _FIXED.size or data[: len(MAGIC)] != MAGIC:
        raise InputError("This is not a file of compressed images of Limner.")
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
        raise InputError("The compressed images are damaged or cut off; get the file again.")
    values = json.loads(zlib.decompress(body[_FIXED.size : end]))
    return Header.parse(values), np.frombuffer(body[end:], "<u4").astype(np.uint32)
