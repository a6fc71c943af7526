"""Values that are given in Python, of any library, as numpy arrays."""

import os
from typing import cast

import numpy as np
import torch
from torch import Tensor

from limner.errors import InputError


def as_array(given: object, where: str) -> np.ndarray:
    """Images of any library as numbers; a list of arrays of one shape is stacked.

    Values of a tensor come to the CPU, without its graph. Nothing is copied if that is possible.

    Raises:
        InputError: it is no array of numbers.
    """
    if isinstance(given, Tensor):
        return _from_tensor(given, where)
    if isinstance(given, list | tuple) and any(map(_is_array, given)):
        return _stacked(given, where)
    if isinstance(given, str | bytes | os.PathLike):
        raise InputError(
            f"{where} is of type {type(given).__name__}, which is no array; load a file "
            "or folder with limner.data.load(DataConfig(name=...))."
        )
    if is_picture(given) or not (isinstance(given, list | tuple) or _is_array(given)):
        raise InputError(
            f"{where} is of type {type(given).__name__}; give an array or tensor of "
            "images, or give a sequence or dataset of images to from_dataset."
        )
    try:
        array = np.asarray(given)
    except ValueError:
        raise _ragged(where) from None
    if array.dtype.hasobject:
        raise _ragged(where)
    return array


def as_labels(given: object, where: str) -> np.ndarray:
    """Labels of any library as an array of numbers or words.

    Raises:
        InputError: they are no list of labels.
    """
    if isinstance(given, Tensor):
        return _from_tensor(given, where)
    if isinstance(given, list | tuple):
        given = [_plain(label) for label in given]
    elif not _is_array(given):
        raise InputError(
            f"{where} is of type {type(given).__name__}; give one whole number or word "
            "per image in a list, array or tensor."
        )
    try:
        array = np.asarray(given)
        # pandas keeps words as objects
        return np.asarray(array.tolist()) if array.dtype.hasobject else array
    except ValueError:  # rows of different lengths
        return np.array([None] * len(cast("list[object]", given)))


def is_picture(given: object) -> bool:
    """Whether this is an image of Pillow."""
    from PIL.Image import Image

    return isinstance(given, Image)


def _plain(label: object) -> object:
    if isinstance(label, Tensor):
        label = label.detach().cpu().numpy()
    return label.item() if isinstance(label, np.ndarray | np.generic) and not label.ndim else label


def _is_array(given: object) -> bool:
    return isinstance(given, Tensor | memoryview) or any(
        hasattr(given, name) for name in ("__array__", "__array_interface__")
    )


def _from_tensor(tensor: Tensor, where: str) -> np.ndarray:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise InputError(f"{where} is a tensor without plain values; give a dense tensor.")
    tensor = tensor.detach().cpu()
    small_float = tensor.is_floating_point() and tensor.dtype not in (
        torch.float16,
        torch.float32,
        torch.float64,
    )
    return (tensor.float() if small_float else tensor).numpy(force=True)


def _stacked(parts: list[object] | tuple[object, ...], where: str) -> np.ndarray:
    if any(is_picture(part) for part in parts):
        raise InputError(f"{where} has images of Pillow; give them to from_dataset.")
    arrays = [as_array(part, f"{where}[{place}]") for place, part in enumerate(parts)]
    kinds = {array.dtype for array in arrays}
    if len({array.shape for array in arrays}) > 1 or len(kinds) > 1:
        raise _ragged(where)
    return np.stack(arrays)


def _ragged(where: str) -> InputError:
    return InputError(
        f"{where} has parts of different shapes or types; give numbers of one type and images of "
        "one size, or give the images to from_dataset with a size."
    )
