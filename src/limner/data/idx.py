"""The IDX format of the MNIST files, plain or gzipped.

Two zero bytes, a type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
32-bit integer, then the bytes in C order. Source: http://yann.lecun.com/exdb/mnist
"""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from limner.data.dataset import check_size
from limner.errors import InputError

# Deflate cannot pack more tightly than 1032 to 1, so a header that states more is wrong.
_MOST_PACKED = 1040


def read_idx(path: Path, sha256: str | None = None) -> np.ndarray:
    """The uint8 array in an IDX file, its shape as in the header.

    `sha256` is that of the uncompressed content. `InputError` if the file is not IDX, is too short
    or too long, or has another checksum. It never allocates more memory than the file can fill.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            header, shape = _header(file, path)
            length = math.prod(shape)
            check_size(length, 1, str(path))
            if length > path.stat().st_size * (_MOST_PACKED if packed else 1):
                raise InputError(_wrong_length(path, shape, "shorter"))
            body = file.read(length)
            rest = file.read(1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); download it again.") from None
    if len(body) < length or rest:
        raise InputError(_wrong_length(path, shape, "longer" if rest else "shorter"))
    if sha256 is not None and _sha256(header, body) != sha256:
        raise InputError(
            f"{path} has been altered: the SHA-256 of its content is not that of the published "
            "file; delete it and download it again with `limner data get`."
        )
    return np.frombuffer(bytearray(body), dtype=np.uint8).reshape(shape)


def _header(file: BinaryIO | gzip.GzipFile, path: Path) -> tuple[bytes, tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
        raise InputError(
            f"{path} is not an IDX file of bytes: it begins with {magic.hex(' ') or 'nothing'} "
            "instead of 00 00 08 and a number of dimensions; download it again."
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise InputError(f"{path} ends within its header; download it again.")
    return magic + sizes, struct.unpack(f">{magic[3]}I", sizes)


def _wrong_length(path: Path, shape: tuple[int, ...], which: str) -> str:
    shown = " x ".join(map(str, shape))
    return f"{path} is {which} than the {shown} bytes that its header states; download it again."


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
