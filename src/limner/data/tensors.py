"""Tensors in files of torch.save, read without running what is pickled in them."""

import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.data.numpy_files import FileArray, refusing
from limner.errors import InputError

_WEIGHTS = ("weight", "bias", "state_dict", "model_state_dict")


def open_pt(path: Path) -> dict[str, FileArray]:
    """The tensors in a file, by name, or arr_0, arr_1 and so on in a tuple or list."""
    found = _load(path)
    if isinstance(found, Tensor):
        return {"images": _stored(found, path, str(path))}
    if isinstance(found, (tuple, list)):
        found = {f"arr_{place}": part for place, part in enumerate(found)}
    if not isinstance(found, Mapping):
        raise InputError(
            f"{path} has a {type(found).__name__}; save a tensor, or a dict or tuple of tensors."
        )
    if any(str(key).rpartition(".")[2] in _WEIGHTS for key in found):
        raise InputError(
            f"{path} has the weights of a model; give a file of images, for example "
            "torch.save({'images': images, 'labels': labels}, FILE)."
        )
    return {
        str(key): _stored(value, path, f"{path} [{key}]")
        for key, value in found.items()
        if isinstance(value, Tensor)
    }


def _load(path: Path) -> Any:
    """The content of a file, mapped if it is not in the format before torch 1.6."""
    try:
        with path.open("rb") as file:
            mapped = file.read(4) == b"PK\3\4"
        if mapped:
            _check_stored(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, InputError):
        raise
    except Exception as error:  # a dozen kinds on damaged input
        raise InputError(
            f"{path} cannot be read as tensors ({_why(error)}); save a tensor, or a dict or tuple "
            "of tensors, with torch.save."
        ) from None


def _check_stored(path: Path) -> None:
    """Refuse members that are compressed: torch would unpack them whole, of any size."""
    with zipfile.ZipFile(path) as archive:
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise InputError(f"{path} is compressed, which torch.save never does; save it again.")


def _why(error: Exception) -> str:
    """What is wrong with a file, without torch's advice to trust it."""
    text = str(error)
    if type(error).__name__ == "UnpicklingError":
        kind = re.search(r"GLOBAL (\w+[\w.]*)", text)
        if kind and kind[1].startswith("numpy"):
            return "it has numpy arrays, not tensors; torch.from_numpy makes tensors of them"
        if kind:
            return f"it has {kind[1]}, which Limner never unpickles"
        return "it is damaged, or has other Python objects, which Limner never unpickles"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).strip() or type(error).__name__
    return plain.splitlines()[0][:200]


def _stored(tensor: Tensor, path: Path, where: str) -> FileArray:
    with refusing(path):
        tensor = tensor.detach()
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise InputError(f"{where} is a sparse or quantized tensor; save it as a dense one.")
        needed = tensor.numel() * tensor.element_size()
        if needed > path.stat().st_size:
            raise InputError(
                f"{where} has {math.prod(tensor.shape):,} values, more than the file; save it "
                "again with .contiguous()."
            )
        some = _array(tensor[(slice(0, 1),) * tensor.ndim])

    def parts(rows: int) -> Iterator[np.ndarray]:
        return (_array(part) for part in (tensor.split(rows) if tensor.ndim else (tensor,)))

    return FileArray(where, tuple(tensor.shape), some.dtype, parts, lambda: _array(tensor))


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor as an array; numpy has no bfloat16 and no 8-bit floats."""
    if tensor.is_floating_point() and tensor.dtype not in (
        torch.float16,
        torch.float32,
        torch.float64,
    ):
        tensor = tensor.float()
    return tensor.resolve_conj().resolve_neg().numpy()
