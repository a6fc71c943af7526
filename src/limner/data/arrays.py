"""Images in NumPy's .npz and .npy files, read without unpickling and with bounded memory."""

import io
import math
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from limner.data.dataset import (
    SPLIT_WORDS,
    SPLITS,
    Images,
    Source,
    Split,
    check_size,
)
from limner.data.splits import complete
from limner.errors import InputError

_IMAGE_KEYS = ("images", "x", "data", "arr_0")
_LABEL_KEYS = ("labels", "y", "targets", "arr_1")
_SPLIT_IMAGE_KEYS = ("x_{}", "images_{}", "{}_images", "{}_x", "{}_data", "{}")
_SPLIT_LABEL_KEYS = ("y_{}", "labels_{}", "{}_labels", "{}_y", "{}_targets")
# Deflate cannot pack more tightly than 1032 to 1, so a header that states more is wrong.
_MOST_PACKED = 1040
_HEADERS = {
    (1, 0): ("<H", np.lib.format.read_array_header_1_0),
    (2, 0): ("<I", np.lib.format.read_array_header_2_0),
}
_LONGEST_HEADER = 10_000


def load_arrays(path: Path, seed: int) -> Source:
    """Images in an .npy, or in an .npz with arrays of images (and labels), or of splits.

    Arrays are [N, H, W], [N, H, W, C] or [N, C, H, W] with C 1 or 3: bool, uint8 levels, or floats
    in [0, 1], which are rounded to 8-bit levels. Missing splits are taken from train.
    """
    if path.suffix.lower() == ".npy":
        splits: dict[str, Images] = {"train": Images(levels_of(read_npy(path), str(path)))}
        names = None
    else:
        splits, names = _read_splits(path)
    return Source(*complete(splits, seed, str(path)), names)


def read_npy(path: Path) -> np.ndarray:
    """The array in an .npy file; `InputError` if it is no array, truncated, or has objects."""
    with _refusing(path), path.open("rb") as file:
        return _read_array(file, path.stat().st_size, str(path))


def npz_keys(path: Path) -> list[str]:
    """The names of the arrays in an .npz file."""
    with _refusing(path), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_npz(path: Path, key: str) -> np.ndarray:
    """One array of an .npz file; `InputError` if it is damaged or has objects."""
    with _refusing(path), zipfile.ZipFile(path) as archive:
        listed = {name.removesuffix(".npy"): name for name in archive.namelist()}
        info = archive.getinfo(listed[key])
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{path} is compressed in a way that numpy never uses; save it again.")
        with archive.open(info) as file:
            bound = min(info.file_size, info.compress_size * _MOST_PACKED)
            return _read_array(file, bound, f"{path} [{key}]")


def levels_of(array: np.ndarray, where: str) -> Tensor:
    """Uint8 levels [N, C, H, W] of an image array in one of the layouts of `load_arrays`."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in array.shape:
        raise InputError(
            f"{where} has shape {array.shape}; give images as [N, H, W], [N, H, W, C] or "
            "[N, C, H, W] with 1 or 3 channels."
        )
    check_size(array.shape[0], math.prod(array.shape[1:]), where)
    levels = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), 1024):
        levels[start : start + 1024] = _to_levels(array[start : start + 1024], where)
    if array.dtype == np.uint8 and levels.max() == 1:
        raise InputError(
            f"{where} has only uint8 levels 0 and 1, which are both black; save binary images as "
            "bool, or multiply by 255."
        )
    return torch.from_numpy(levels)


def find_split(keys: list[str], split: Split, patterns: tuple[str, ...]) -> str | None:
    """The key of `split` by one of `patterns`, ignoring case; None if there is none."""
    return _find(keys, [form.format(word) for word in SPLIT_WORDS[split] for form in patterns])


def image_key(keys: list[str], split: Split) -> str | None:
    """The key of a split's images, such as x_train, train_images, train_data or train."""
    return find_split(keys, split, _SPLIT_IMAGE_KEYS)


def _read_splits(path: Path) -> tuple[dict[str, Images], tuple[str, ...] | None]:
    keys = npz_keys(path)
    found: dict[str, tuple[str, str | None]] = {}
    for split in SPLITS:
        key = image_key(keys, split)
        if key is not None:
            found[split] = (key, find_split(keys, split, _SPLIT_LABEL_KEYS))
    if not found:
        key = _find(keys, list(_IMAGE_KEYS)) or (keys[0] if len(keys) == 1 else None)
        if key is None:
            raise InputError(
                f"{path} has no array of images, only {', '.join(keys) or 'nothing'}; call it "
                "images (and labels), or x_train, x_valid and x_test."
            )
        found["train"] = (key, _find(keys, list(_LABEL_KEYS)))
    levels = {
        split: levels_of(read_npz(path, key), f"{path} [{key}]")
        for split, (key, _) in found.items()
    }
    raw = {split: read_npz(path, key) for split, (_, key) in found.items() if key is not None}
    if len(raw) < len(found):
        return {split: Images(levels[split]) for split in found}, None
    return _labelled(levels, raw, str(path))


def _labelled(
    levels: dict[str, Tensor], raw: dict[str, np.ndarray], where: str
) -> tuple[dict[str, Images], tuple[str, ...] | None]:
    """Pair images with labels: integers, or words, which become sorted class names."""
    for split, labels in raw.items():
        if (
            labels.shape not in ((len(levels[split]),), (len(levels[split]), 1))
            or labels.dtype.kind not in "iubU"
        ):
            raise InputError(
                f"{where} has {split} labels of shape {labels.shape} and type {labels.dtype} for "
                f"{len(levels[split])} images; give one whole number or word per image."
            )
    names = None
    if any(labels.dtype.kind == "U" for labels in raw.values()):
        raw = {split: labels.reshape(-1).astype(str) for split, labels in raw.items()}
        words = np.unique(np.concatenate(list(raw.values())))
        names = tuple(map(str, words))
        raw = {split: np.searchsorted(words, labels) for split, labels in raw.items()}
    return {
        split: Images(levels[split], torch.from_numpy(labels.reshape(-1).astype(np.int64)))
        for split, labels in raw.items()
    }, names


def _to_levels(part: np.ndarray, where: str) -> np.ndarray:
    if part.dtype == np.uint8:
        return part
    if part.dtype == np.bool_:
        return part * np.uint8(255)
    if part.dtype.kind != "f":
        raise InputError(
            f"{where} is {part.dtype}; save images as uint8 levels, bool, or floats in [0, 1]."
        )
    if not (part.min() >= 0 and part.max() <= 1):
        worst = "NaN" if np.isnan(part).any() else f"{part.min():g} to {part.max():g}"
        raise InputError(
            f"{where} has pixels outside [0, 1] ({worst}); scale floats to [0, 1], or "
            "save 8-bit levels as uint8."
        )
    return np.rint(part.astype(np.float64) * 255).astype(np.uint8)


def _read_array(file: IO[bytes], available: int, where: str) -> np.ndarray:
    """An array from a stream of at most `available` bytes; its header is checked before reading."""
    prefix, read_header = _HEADERS[np.lib.format.read_magic(file)]
    start = file.read(struct.calcsize(prefix))
    (length,) = struct.unpack(prefix, start)
    if length > _LONGEST_HEADER:
        raise InputError(f"{where} has a header of {length} bytes; save it again.")
    shape, fortran, dtype = read_header(io.BytesIO(start + file.read(length)))
    if dtype.hasobject:
        raise InputError(
            f"{where} has Python objects, which Limner never unpickles; save an array of numbers, "
            "with all images of one size."
        )
    if min(shape, default=1) < 0:
        raise InputError(f"{where} states the shape {shape}; save it again.")
    size = math.prod(shape) * dtype.itemsize
    check_size(1, size, where)
    if size > available:
        raise InputError(
            f"{where} is shorter than the {size} bytes that its header states; save it again."
        )
    data = file.read(size)
    if len(data) < size:
        raise InputError(f"{where} ends after {len(data)} of {size} bytes; save it again.")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _find(keys: list[str], wanted: list[str]) -> str | None:
    lower = {key.lower(): key for key in keys}
    return next((lower[name] for name in wanted if name in lower), None)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
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
            f"{path} cannot be read as NumPy arrays ({what}); save it again with np.savez."
        ) from None
