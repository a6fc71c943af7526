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
import os
import re
import struct
import uuid
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout

from limner.data.download import cache_folder
from limner.data.entry import BLOCK, Checksums, Stored, code_of, header_of, read, read_header
from limner.data.splits import row_digests
from limner.errors import InputError
from limner.progress import warn

_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


def folder() -> Path:
    """The folder of the cache, in the user's usual place (XDG_CACHE_HOME on Linux)."""
    return cache_folder("pixels")


def key_of(*parts: object) -> str:
    """A key or an alias: 32 letters that depend on every part, which are values of JSON."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def known(alias: str) -> str | None:
    """The key with this alias."""
    return _key_in(folder() / "known" / alias)


def _key_in(path: Path) -> str | None:
    """What the file of an alias says; None if there is none, or if it was damaged."""
    with contextlib.suppress(OSError):
        found = path.read_bytes()
        return found.decode() if re.fullmatch(rb"[0-9a-f]{32}", found) else None
    return None


def remember(alias: str, key: str) -> None:
    """Give an entry an alias."""
    with storing():
        partial = folder() / "known" / f".{uuid.uuid4().hex}"
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(key, encoding="ascii")
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
            lock = FileLock(folder() / "locks" / path.name.removeprefix("."), thread_local=False)
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
    use = _use_of(key)
    try:
        stored, mapping = read(path)
    except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
        _release(use)
        if path.is_file():
            warn(f"{path} is damaged ({error}); its images are read again.")
            with storing():
                path.unlink(missing_ok=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    weakref.finalize(mapping, _release, use)
    return stored


def _use_of(key: str) -> FileLock:
    """A lock that keeps an entry from being removed; not acquired where nothing can be written."""
    use = FileLock(folder() / "locks" / f"{key}.{uuid.uuid4().hex}.use", thread_local=False)
    with storing():
        try:
            use.acquire()
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise
    return use


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
    forms = {name: (code_of(array), array.shape) for name, array in arrays.items()}
    header = header_of(
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
            sums, hashes = Checksums(), []
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
                header, _ = read_header(path)
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
        for alias in (folder() / "known").glob("[!.]*"):
            if _key_in(alias) in (key, None):
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
