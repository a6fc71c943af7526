"""Files of runs and models: written whole or not at all, checked when read, never unpickled.

Tensors are safetensors with a JSON document and a SHA-256 of all content in the header.
"""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from limner.errors import InputError

T = TypeVar("T")
TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}
"""Names of types in safetensors files."""
WEIGHTS = "model.safetensors"
"""The file of the weights to use, in a run folder, in a saved model and on the Hub."""


def write_atomically(
    path: Path, content: bytes | str | Iterable[Any], previous: Path | None = None
) -> None:
    """Replace `path` by `content`; readers and crashes see the old file or the new one.

    Args:
        content: all of it, or parts (bytes or buffers) that are taken one by one.
        previous: where the old file goes, once the new one is whole.

    Raises:
        InputError: the place cannot be written or is full. The old file is still there.
    """
    content = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:  # never through a link that lies there
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def writable(path: Path) -> Path:
    """`path`, whose folder is made, before anything is computed.

    Raises:
        InputError: the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        advice = "make it writable, or choose another place with --out"
        raise unwritable(path.parent, error, advice) from None
    return path


def unwritable(
    path: Path, error: OSError, advice: str = "make it writable, or choose another place"
) -> InputError:
    """The error for a path that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = "free some space"
    return InputError(f"Cannot write {path}: {error.strerror}; {advice}.")


def sweep(folder: Path) -> None:
    """Remove what killed writers left half-written in `folder` and below."""
    for path in folder.rglob(".*.tmp"):
        writer = path.name.split(".")[-2]
        if writer.isdecimal() and not psutil.pid_exists(int(writer)):
            path.unlink(missing_ok=True)


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    document: Mapping[str, Any],
    previous: Path | None = None,
) -> None:
    """Write tensors and a JSON document into one safetensors file, with their checksum.

    `previous` is where the old file goes, as in `write_atomically`.
    """
    text = json.dumps(document)
    metadata = {"document": text, "sha256": _digest(tensors, text)}
    write_atomically(path, _parts(tensors, metadata), previous)


def _parts(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[Any]:
    """A safetensors file in parts: the header's length, the header, the bytes of each tensor.

    The library would hold a copy of all tensors and end in errors without a number if the disk is
    full. As it does, larger types come first, so that every tensor is aligned.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name in names:
        end = start + tensors[name].nbytes
        header[name] = {
            "dtype": TYPES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    yield from (_bytes_of(tensors[name]) for name in names)


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a tensor; a copy only if it is on another device or not contiguous."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def load_tensors(path: Path, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and document of a file written by `save_tensors`.

    Args:
        prefix: keep only tensors whose name begins with it; all are checked.

    Raises:
        InputError: missing, truncated, altered, or not such a file.
    """
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            text, tensors = metadata["document"], {}
            digest = hashlib.sha256(text.encode())
            for name in sorted(file.keys()):
                tensor = file.get_tensor(name)
                _add_to(digest, name, tensor)
                if name.startswith(prefix):
                    tensors[name] = tensor.clone()  # not mapped: Windows replaces no mapped file
        if metadata["sha256"] != digest.hexdigest():
            raise ValueError
        return tensors, _mapping(text)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError):
        raise InputError(f"{path} is damaged; restore it, or train the run again.") from None


def read_document(path: Path) -> dict[str, Any]:
    """The document of a file written by `save_tensors`, without reading its tensors.

    Raises:
        InputError: missing, or not such a file.
    """
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return _mapping((file.metadata() or {})["document"])
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError):
        raise InputError(f"{path} is damaged; restore it, or train the run again.") from None


def first_sound(
    paths: Iterable[Path], read: Callable[[Path], T], report: Callable[[str], None]
) -> tuple[Path, T] | None:
    """The first of `paths` that `read` can read, and what it read; None if there is no file.

    `report` gets a sentence for each damaged file that is passed over.

    Raises:
        InputError: there are files, and all are damaged.
    """
    damaged: dict[Path, InputError] = {}
    for path in filter(Path.is_file, paths):
        try:
            found = read(path)
        except InputError as error:
            damaged[path] = error
            continue
        for wrong in damaged:
            report(f"{wrong} is damaged; {path} is used in its place.")
        return path, found
    for error in damaged.values():
        raise error
    return None


def _check_file(path: Path) -> None:
    """Refuse a path that is not a file, or a file that does not fit into memory."""
    if not path.is_file():
        raise InputError(f"There is no file {path}; train the run first.")
    if path.stat().st_size > psutil.virtual_memory().available:
        raise InputError(f"{path} is larger than the memory that is free here; restore it.")


def _mapping(text: str) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError
    return document


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        _add_to(digest, name, tensors[name])
    return digest.hexdigest()


def _add_to(digest: Any, name: str, tensor: Tensor) -> None:
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(_bytes_of(tensor))
