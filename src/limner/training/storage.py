"""Files of a run: written whole or not at all, checked when read, never unpickled.

Tensors are safetensors with a JSON document and a SHA-256 of all content in the header.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from limner.errors import InputError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content`; readers and crashes see the old file or the new one.

    Raises:
        InputError: the place cannot be written or is full. The old file is still there.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space" if full else "choose another place with --out"
        raise InputError(f"Cannot write {path}: {error.strerror}; {advice}.") from None


def save_tensors(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Write tensors and a JSON document into one safetensors file, with their checksum."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(document)
    metadata = {"document": text, "sha256": _digest(stored, text)}
    write_atomically(path, save({name: t.clone() for name, t in stored.items()}, metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and document of a file written by `save_tensors`.

    Raises:
        InputError: missing, truncated, altered, or not such a file.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}; train the run first.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = metadata["document"]
        if metadata["sha256"] != _digest(tensors, text):
            raise ValueError
        return tensors, json.loads(text)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError):
        raise InputError(f"{path} is damaged; restore it, or train the run again.") from None


def read_document(path: Path) -> dict[str, Any]:
    """The document of a file written by `save_tensors`, without reading its tensors.

    Raises:
        InputError: missing, or not such a file.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}; train the run first.")
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})["document"])
    except (SafetensorError, OSError, KeyError, ValueError):
        raise InputError(f"{path} is damaged; restore it, or train the run again.") from None


def first_sound(paths: list[Path], report: Callable[[str], None]) -> tuple[dict, dict]:
    """The first of `paths` that loads; `report` is told of each damaged file passed over.

    Raises:
        InputError: none loads.
    """
    for path in paths[:-1]:
        try:
            return load_tensors(path)
        except InputError as error:
            if path.is_file():
                report(f"{error} Trying the one before.")
    return load_tensors(paths[-1])


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
