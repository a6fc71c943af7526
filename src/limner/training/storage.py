"""Files of a run: written whole or not at all, checked when read, never unpickled.

Tensors are safetensors with a JSON document and a SHA-256 of all content in the header.
"""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from limner.errors import InputError

T = TypeVar("T")


def write_atomically(path: Path, content: bytes | str, previous: Path | None = None) -> None:
    """Replace `path` by `content`; readers and crashes see the old file or the new one.

    Args:
        previous: where the old file goes, once the new one is whole.

    Raises:
        InputError: the place cannot be written or is full. The old file is still there.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:  # never through a link that lies there
            file.write(data)
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


def unwritable(path: Path, error: OSError) -> InputError:
    """What to tell whoever cannot write `path`."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = "free some space" if full else "make it writable, or choose another place with --out"
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
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(document)
    metadata = {"document": text, "sha256": _digest(stored, text)}
    content = save({name: t.clone() for name, t in stored.items()}, metadata)
    write_atomically(path, content, previous)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and document of a file written by `save_tensors`.

    Raises:
        InputError: missing, truncated, altered, or not such a file.
    """
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = metadata["document"]
        if metadata["sha256"] != _digest(tensors, text):
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
    """The first of `paths` that `read` can read, and what it read; None where there is no file.

    `report` is told which damaged file another one stands in for.

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
    """Refuse what is no file, or one whose tensors would not fit into memory."""
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
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
