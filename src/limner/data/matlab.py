"""MATLAB 5 files: lengths are checked before scipy reads them.

A file is a header of 128 bytes and elements: a tag (type and length, 32 bits each), then content.
A compressed element (type 15) holds another element. A matrix (type 14) is its class, dimensions,
name and values, each an element itself. scipy allocates what these lengths state.
Source: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from limner.errors import InputError

MOST = 2**28
"""Bytes of the largest matrix. OMNIGLOT's has 146 MiB, in double precision, SVHN's 215 MiB."""
_ADVICE = "download it again."
_MATRIX, _COMPRESSED = 14, 15
_BYTES = {6: 8, 7: 4, 8: 1, 9: 1, 10: 2, 11: 2, 12: 4, 13: 4, 14: 8, 15: 8}
"""Bytes of a value in each class of numbers: double, single, and integers of 8 to 64 bits."""
_HEAD, _BLOCK = 2**10, 2**20
"""Bytes that hold all of a matrix but its values, and bytes unpacked at once."""


class _Head(NamedTuple):
    name: bytes
    kind: int
    shape: tuple[int, ...]
    length: int
    """Bytes of the matrix, as its tag states, and the tag."""


def check_matrices(path: Path, names: Collection[str]) -> None:
    """Refuse a file whose matrices of these names are longer than their dimensions allow.

    Raises:
        InputError: that is so, or they are larger than `MOST`, not numeric, or damaged.
    """
    known = {name.encode() for name in names}
    try:
        with path.open("rb") as file:
            for head, length in _matrices(file, path):
                if head.name in known:
                    _check(head, length, path)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(f"{path} is not a readable MATLAB file ({error}); {_ADVICE}") from None


def _check(head: _Head, length: int, path: Path) -> None:
    where, values = f"{path} [{head.name.decode()}]", math.prod(head.shape)
    if head.kind not in _BYTES:
        raise InputError(f"{where} is not a matrix of numbers; {_ADVICE}")
    size = _BYTES[head.kind] * values
    if size > MOST:
        raise InputError(
            f"{where} states {values:,} values, more than any dataset of Limner has; {_ADVICE}"
        )
    if max(length, head.length) > 2 * size + _HEAD:  # complex values are twice as long
        raise InputError(f"{where} is longer than its {values:,} values; {_ADVICE}")
    if length != head.length:
        raise InputError(f"{where} has {length:,} bytes instead of {head.length:,}; {_ADVICE}")


def _matrices(file: BinaryIO, path: Path) -> Iterator[tuple[_Head, int]]:
    """What each matrix states, and its bytes, counted up to twice `MOST`."""
    size, start = path.stat().st_size, 128
    order = {b"IM": "<", b"MI": ">"}.get(file.read(start)[126:])
    if order is None:
        raise InputError(f"{path} is not a MATLAB 5 file; {_ADVICE}")
    while start + 8 <= size:
        file.seek(start)
        kind, length = struct.unpack(f"{order}II", file.read(8))
        end = min(size, start + 8 + length)
        if kind == _COMPRESSED:
            yield _unpacked(file, end - start - 8, order)
        elif kind == _MATRIX:
            file.seek(start)
            yield _head(file.read(_HEAD), order), end - start
        else:
            raise InputError(f"{path} is not a readable MATLAB file; {_ADVICE}")
        start += 8 + length


def _unpacked(file: BinaryIO, length: int, order: str) -> tuple[_Head, int]:
    """What the matrix in a compressed element states, and its bytes."""
    unpacker, count, start = zlib.decompressobj(), 0, b""
    while not unpacker.eof and count <= 2 * MOST:
        packed = unpacker.unconsumed_tail or file.read(min(length, _BLOCK))
        if not packed:
            raise EOFError("it ends too early")
        length -= 0 if unpacker.unconsumed_tail else len(packed)
        part = unpacker.decompress(packed, _BLOCK)
        start, count = (start + part)[:_HEAD], count + len(part)
    return _head(start, order), count


def _head(start: bytes, order: str) -> _Head:
    kind, length = struct.unpack_from(f"{order}II", start)
    if kind != _MATRIX:
        raise EOFError("it holds no matrix")
    flags, place = _element(start, 8, order)
    sizes, place = _element(start, place, order)
    name, _ = _element(start, place, order)
    (flag,) = struct.unpack_from(f"{order}I", flags)
    shape = struct.unpack(f"{order}{len(sizes) // 4}I", sizes)
    return _Head(name, flag & 0xFF, shape, length + 8)


def _element(content: bytes, place: int, order: str) -> tuple[bytes, int]:
    """The data of the small element at a place, and the place of the next."""
    kind, length = struct.unpack_from(f"{order}II", content, place)
    if kind >> 16:  # up to four bytes of data are in the tag
        length, start, end = kind >> 16, place + 4, place + 8
    else:
        start = place + 8
        end = start + length + -length % 8
    if start + length > len(content):
        raise EOFError("a length in it is wrong")
    return content[start : start + length], end
