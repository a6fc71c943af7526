"""Arrays in NumPy's .npz and .npy files, read in blocks, without unpickling."""

import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from limner.errors import InputError

BLOCK_BYTES = 2**24
MOST_WHOLE = 2**30
"""Bytes of the largest array that is read whole into memory."""
# Deflate cannot pack more tightly than 1032 to 1, so a header that states more is wrong.
_MOST_PACKED = 1040
_HEADERS = {
    (1, 0): ("<H", np.lib.format.read_array_header_1_0),
    (2, 0): ("<I", np.lib.format.read_array_header_2_0),
}
_LONGEST_HEADER = 10_000


@dataclass(frozen=True)
class FileArray:
    """An array in a file or in memory.

    `parts(n)` reads it from the start, `n` rows at a time. `mapped()` is the array itself without
    reading it, if that is possible. `text`: its numbers were written as text.
    """

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype
    parts: Callable[[int], Iterator[np.ndarray]]
    mapped: Callable[[], np.ndarray] | None = None
    text: bool = False

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows in blocks of about 16 MiB."""
        row = self.dtype.itemsize * math.prod(self.shape[1:])
        return self.parts(max(1, BLOCK_BYTES // max(1, row)))

    def whole(self) -> np.ndarray:
        """The array, mapped or read; `InputError` if it would take more than 1 GiB of memory."""
        if self.mapped is not None:
            return self.mapped()
        _check_whole(self.dtype.itemsize * math.prod(self.shape), self.where)
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        blocks = list(self.blocks())
        return np.concatenate(blocks) if self.shape else blocks[0]


def in_memory(array: np.ndarray, where: str) -> FileArray:
    """An array in memory."""

    def parts(rows: int) -> Iterator[np.ndarray]:
        return (array[start : start + rows] for start in range(0, len(array), rows))

    return FileArray(where, array.shape, array.dtype, parts, lambda: array)


def open_npy(path: Path) -> FileArray:
    """The array in an .npy file; `InputError` if it is none or is truncated."""

    @contextmanager
    def opened() -> Iterator[tuple[IO[bytes], int]]:
        with refusing(path), path.open("rb") as file:
            yield file, path.stat().st_size

    return _stored(opened, str(path), path)


def open_npz(path: Path) -> dict[str, FileArray]:
    """The arrays in an .npz file by name; other members are left out."""
    found = {}
    with refusing(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            key = info.filename.removesuffix(".npy")
            if key != info.filename:
                found[key] = _member(path, info, f"{path} [{key}]")
    return found


def _member(path: Path, info: zipfile.ZipInfo, where: str) -> FileArray:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{path} is compressed in a way that numpy never uses; save it again.")

    @contextmanager
    def opened() -> Iterator[tuple[IO[bytes], int]]:
        with refusing(path), zipfile.ZipFile(path) as archive, archive.open(info) as file:
            yield file, min(info.file_size, info.compress_size * _MOST_PACKED)

    return _stored(opened, where)


def _stored(opened: Callable, where: str, path: Path | None = None) -> FileArray:
    """An array from `opened()`: a stream, and how many bytes it has at most.

    `path` is its file, if the array is stored there as it is.
    """
    with opened() as (file, available):
        shape, fortran, dtype = _header(file, where)
        start = file.tell()
    size = math.prod(shape) * dtype.itemsize
    if size > available - start and not dtype.hasobject:
        raise InputError(
            f"{where} is shorter than the {size} bytes that its header states; save it again."
        )

    def parts(rows: int) -> Iterator[np.ndarray]:
        with opened() as (file, _):
            _header(file, where)
            if fortran:
                _check_whole(size, where)
                yield _read(file, shape[::-1], dtype, where).transpose()
                return
            length = shape[0] if shape else 1
            for first in range(0, length, rows):
                here = (min(rows, length - first), *shape[1:])
                yield _read(file, here, dtype, where)

    def mapped() -> np.ndarray:
        return np.memmap(path or "", dtype, "r", start, shape, "F" if fortran else "C")

    if path is None or not size or dtype.hasobject:
        return FileArray(where, shape, dtype, parts)

    def views(rows: int) -> Iterator[np.ndarray]:
        return in_memory(mapped(), where).parts(rows)

    return FileArray(where, shape, dtype, views if fortran else parts, mapped)


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and type of the array that a stream begins with."""
    prefix, read_header = _HEADERS[np.lib.format.read_magic(file)]
    start = file.read(struct.calcsize(prefix))
    (length,) = struct.unpack(prefix, start)
    if length > _LONGEST_HEADER:
        raise InputError(f"{where} has a header of {length} bytes; save it again.")
    shape, fortran, dtype = read_header(io.BytesIO(start + file.read(length)))
    if min(shape, default=1) < 0:
        raise InputError(f"{where} states the shape {shape}; save it again.")
    return tuple(map(int, shape)), fortran, dtype


def check_no_objects(dtype: np.dtype, where: str) -> None:
    """`InputError` for an array of pickled objects."""
    if dtype.hasobject:
        raise InputError(
            f"{where} has Python objects, which Limner never unpickles; save an array of numbers, "
            "with all images of one size."
        )


def _check_whole(size: int, where: str) -> None:
    if size > MOST_WHOLE:
        raise InputError(
            f"{where} needs {size / 2**30:.1f} GiB of memory because its images are not along its "
            "first axis in C order; save it with numpy.ascontiguousarray, or as .npy."
        )


def _read(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, where: str) -> np.ndarray:
    check_no_objects(dtype, where)
    size = math.prod(shape) * dtype.itemsize
    data = file.read(size)
    if len(data) < size:
        raise InputError(f"{where} ends after {len(data)} of {size} bytes; save it again.")
    return np.frombuffer(data, dtype).reshape(shape)


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turns any error from a damaged file into an `InputError`.

    numpy, zipfile, zlib and tokenize raise a dozen kinds of exception on damaged input.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} cannot be read as arrays ({what}); save it again, for example with np.savez."
        ) from None
