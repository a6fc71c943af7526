"""The pixel cache: images as 8-bit levels in files that are mapped into memory.

KEY.safetensors   an entry: levels [N, C, H, W], labels, digests, names and checksums
known/            aliases: each file has the key of an entry, which is found without its source
locks/            one lock for each build, and one for each use of an entry
"""

import contextlib
import errno
import hashlib
import json
import math
import mmap
import os
import struct
import sys
import uuid
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from limner.data.download import cache_folder
from limner.data.splits import row_digests
from limner.errors import InputError
from limner.progress import warn

BLOCK = 2**22
"""Bytes of pixels that have one checksum."""
CHECKED = 2**30
"""Bytes of pixels that are verified when an entry is opened; of larger ones a random sample."""
_PAGE = 2**12
_LONGEST_HEADER = 2**26
_TYPES = {"U8": "|u1", "I64": "<i8", "U64": "<u8", "U32": "<u4"}
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


@dataclass(frozen=True, eq=False)
class Stored:
    """An entry that is open: `levels`, uint8 [N, C, H, W], are mapped, `arrays` are in memory.

    The mapping is private: what is written to `levels` does not reach the file.
    """

    levels: Tensor
    arrays: Mapping[str, np.ndarray]
    about: Mapping[str, Any]


def folder() -> Path:
    """The folder of the cache, in the user's usual place (XDG_CACHE_HOME on Linux)."""
    return cache_folder("pixels")


def key_of(*parts: object) -> str:
    """A key or an alias: 32 letters that depend on every part, which are values of JSON."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def known(alias: str) -> str | None:
    """The key with this alias."""
    with contextlib.suppress(OSError):
        return (folder() / "known" / alias).read_text()
    return None


def remember(alias: str, key: str) -> None:
    """Give an entry an alias."""
    with storing():
        partial = folder() / "known" / f".{uuid.uuid4().hex}"
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(key)
        partial.replace(partial.with_name(alias))


@contextlib.contextmanager
def locked(name: str, source: str) -> Iterator[None]:
    """A lock under which one process builds an entry, and others wait for it."""
    lock = _lock(f"{name}.draft")
    with storing():
        try:
            lock.acquire(timeout=0)
        except Timeout:
            warn(f"Another process is reading {source}; this one waits for it.")
            lock.acquire()
    try:
        sweep()
        yield
    finally:
        lock.release()


def sweep() -> None:
    """Remove files that processes left when they were killed."""
    for suffix in ("draft", "partial"):
        for path in folder().glob(f".*.{suffix}"):
            lock = _lock(path.name.removeprefix("."))
            with contextlib.suppress(Timeout, OSError), lock.acquire(timeout=0):
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def storing() -> Iterator[None]:
    """Turns errors of the file system, such as a full disk, into an `InputError`."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space (limner data cache --clear empties the cache), or "
        raise InputError(
            f"Images cannot be stored in {folder()} ({error.strerror or error}); "
            f"{advice if full else ''}choose another folder with XDG_CACHE_HOME."
        ) from None


def put(file: IO[bytes], data: bytes | memoryview) -> None:
    """Write all of `data` to an unbuffered file."""
    left = memoryview(data)
    with storing():
        while left:
            left = left[file.write(left) :]


def opened(key: str) -> Stored | None:
    """The entry with this key, verified; None if there is none, or if it was damaged."""
    path = _path(key)
    if not path.is_file():
        return None
    use = _lock(f"{key}.{uuid.uuid4().hex}.use")
    with storing():
        use.acquire()
    try:
        stored, mapping = _read(path)
        os.utime(path)
    except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
        _release(use)
        if path.is_file():
            warn(f"{path} is damaged ({error}); its images are read again.")
            with storing():
                path.unlink(missing_ok=True)
        return None
    weakref.finalize(mapping, _release, use)
    return stored


def write(
    key: str,
    shape: tuple[int, ...],
    blocks: Iterable[np.ndarray],
    arrays: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    digests: np.ndarray | None = None,
) -> None:
    """Store images of `shape` [N, C, H, W], which come in blocks [n, C, H, W], as an entry.

    The entry appears as a whole. It gets `digests` of its images, computed if not given.
    """
    count = (math.prod(shape[1:]) * shape[0] + BLOCK - 1) // BLOCK
    forms = {name: (_code(array), array.shape) for name, array in arrays.items()}
    header = _header(
        {"levels": ("U8", shape), "digests": ("U64", (shape[0],))}
        | forms
        | {"checksums": ("U32", (count + 2,))},
        about,
    )
    partial = folder() / f".{key}.partial"
    lock = _lock(partial.name.removeprefix("."))
    with storing():
        lock.acquire()
    try:
        with storing():
            file = partial.open("wb", buffering=0)
        with file:
            put(file, header)
            sums, hashes = _Checksums(), []
            for block in blocks:
                data = np.ascontiguousarray(block)
                put(file, data.data.cast("B"))
                sums.add(data.data.cast("B"))
                hashes += [row_digests(data)] if digests is None else []
            found = np.concatenate(hashes) if digests is None else digests
            rest = b"".join(np.ascontiguousarray(a).tobytes() for a in (found, *arrays.values()))
            put(file, rest)
            sums = np.array([zlib.crc32(header), zlib.crc32(rest), *sums.ended()], "<u4")
            put(file, sums.tobytes())
            with storing():
                os.fsync(file.fileno())
        with storing():
            partial.replace(_path(key))
    finally:
        partial.unlink(missing_ok=True)
        lock.release()


@dataclass(frozen=True)
class Listed:
    """An entry in the list: `size` in bytes, `used` in seconds since 1970."""

    key: str
    source: str
    shape: tuple[int, ...]
    size: int
    used: float


def entries() -> list[Listed]:
    """All entries, the last used first; damaged ones have no source and no shape."""
    found = []
    for path in folder().glob("*.safetensors"):
        with contextlib.suppress(OSError):
            state = path.stat()
            source, shape = "damaged", ()
            with contextlib.suppress(ValueError, LookupError, TypeError, struct.error):
                header, _ = _read_header(path)
                source = json.loads(header["__metadata__"]["limner"])["source"]
                shape = tuple(header["levels"]["shape"])
            found.append(Listed(path.stem, source, shape, state.st_size, state.st_mtime))
    return sorted(found, key=lambda entry: -entry.used)


def remove(key: str) -> bool:
    """Remove an entry and its aliases; False if a process uses it."""
    with storing():
        for path in (folder() / "locks").glob(f"{key}.*.use"):
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return False
            _release(lock)
        _path(key).unlink(missing_ok=True)
        for alias in (folder() / "known").glob("*"):
            if alias.read_text() == key:
                alias.unlink(missing_ok=True)
    return True


def _path(key: str) -> Path:
    return folder() / f"{key}.safetensors"


def _lock(name: str) -> FileLock:
    with storing():
        (folder() / "locks").mkdir(parents=True, exist_ok=True)
    return FileLock(folder() / "locks" / name, thread_local=False)


def _release(lock: FileLock) -> None:
    with contextlib.suppress(OSError):
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _code(array: np.ndarray) -> str:
    return next(code for code, kind in _TYPES.items() if np.dtype(kind) == array.dtype)


def _header(forms: Mapping[str, tuple[str, tuple[int, ...]]], about: Mapping[str, Any]) -> bytes:
    """That of a safetensors file, as long as whole pages, so that pixels begin with one."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt", "limner": json.dumps(about)}}
    end = 0
    for name, (code, shape) in forms.items():
        start, end = end, end + math.prod(shape) * np.dtype(_TYPES[code]).itemsize
        table[name] = {"dtype": code, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(table).encode()
    text += b" " * (-(8 + len(text)) % _PAGE)
    return struct.pack("<Q", len(text)) + text


def _read_header(path: Path) -> tuple[dict[str, Any], bytes]:
    with path.open("rb") as file:
        start = file.read(8)
        (length,) = struct.unpack("<Q", start)
        if length > _LONGEST_HEADER:
            raise ValueError("its header is too long")
        raw = file.read(length)
    return json.loads(raw), start + raw


def _read(path: Path) -> tuple[Stored, mmap.mmap]:
    """An entry, and the mapping that its levels lie in."""
    table, header = _read_header(path)
    about = json.loads(table.pop("__metadata__")["limner"])
    ends = max(entry["data_offsets"][1] for entry in table.values())
    if path.stat().st_size != len(header) + ends:
        raise ValueError("its length is wrong")
    levels = table.pop("levels")
    size = levels["data_offsets"][1]
    with path.open("rb") as file:
        file.seek(len(header) + size)
        rest = file.read(ends - size)
        mapping = _mapped(file.fileno(), len(header) + size)
    arrays = {}
    for name, entry in table.items():
        begin, end = (place - size for place in entry["data_offsets"])
        arrays[name] = np.frombuffer(rest[begin:end], _TYPES[entry["dtype"]]).reshape(
            entry["shape"]
        )
    sums = arrays.pop("checksums")
    if sums[0] != zlib.crc32(header) or sums[1] != zlib.crc32(rest[: -sums.nbytes]):
        raise ValueError("its checksum is wrong")
    _verify(path, len(header), size, sums[2:])
    pixels = torch.frombuffer(mapping, dtype=torch.uint8, offset=len(header), count=size)
    return Stored(pixels.view(levels["shape"]), arrays, about), mapping


def _mapped(file: int, length: int) -> mmap.mmap:
    """A private, writable mapping, since torch wants to be able to write; no memory is reserved."""
    if os.name == "nt":
        return mmap.mmap(file, length, access=mmap.ACCESS_COPY)
    flags, prot = mmap.MAP_PRIVATE | _NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
    return mmap.mmap(file, length, flags=flags, prot=prot)


def _verify(path: Path, offset: int, size: int, sums: np.ndarray) -> None:
    chosen = np.arange(len(sums))
    if size > CHECKED:
        chosen = np.random.default_rng().choice(chosen, CHECKED // BLOCK, replace=False)

    def is_sound(block: int) -> bool:
        with path.open("rb") as file:
            file.seek(offset + block * BLOCK)
            return zlib.crc32(file.read(min(BLOCK, size - block * BLOCK))) == sums[block]

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        if not all(pool.map(is_sound, chosen.tolist())):
            raise ValueError("its checksum is wrong")


class _Checksums:
    """CRC-32 of every block of a stream of bytes."""

    def __init__(self) -> None:
        self._sums, self._sum, self._room = [], 0, BLOCK

    def add(self, data: memoryview) -> None:
        while data:
            part, data = data[: self._room], data[self._room :]
            self._sum, self._room = zlib.crc32(part, self._sum), self._room - len(part)
            if not self._room:
                self._sums.append(self._sum)
                self._sum, self._room = 0, BLOCK

    def ended(self) -> list[int]:
        return self._sums + ([self._sum] if self._room < BLOCK else [])
