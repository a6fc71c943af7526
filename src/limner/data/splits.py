"""Splits that depend on each image alone.

An image gets a number h in [0, 1), which is a hash of the seed and of its content (or its group).
Those with h < 0.1 are for test, those with 0.1 <= h < 0.2 for validation, the others for training.
If these are fewer than one for each, the images with the lowest h are. So an image that is added
can move others into the training set, and never a training image out of it. The same is true of
other shares, and of a number of images, which are those with the lowest h.
"""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence, Sized
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from limner.data.dataset import SPLITS, Images, Split
from limner.data.needs import TooFew
from limner.errors import InputError


class HeldOut(NamedTuple):
    """What is cut from the training images: a share in (0, 1), or an int, a number of images."""

    validation: float = 0.1
    test: float = 0.1


TENTHS = HeldOut()


def digests(images: Images) -> np.ndarray:
    """Uint64 [N]: a hash of the pixels of each image, the same for images that are equal."""
    if images.digests is None:
        return row_digests(images.levels.numpy())
    return images.digests


def row_digests(levels: np.ndarray) -> np.ndarray:
    """Uint64 [N]: a hash of each row of uint8 [N, ...]."""
    rows = np.ascontiguousarray(levels).reshape(len(levels), -1)
    hashes = b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows)
    return np.frombuffer(hashes, "<u8").astype(np.uint64)


def value_digests(values: np.ndarray) -> np.ndarray:
    """Uint64 [N]: a hash of each row of numbers [N, ...] of one type, in any byte order."""
    rows = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(len(values), -1)
    return row_digests(rows.view(np.uint8))


def keys_of(digests: np.ndarray) -> list[bytes]:
    """The bytes of each digest."""
    return [digest.tobytes() for digest in digests]


def shares(keys: Iterable[bytes], seed: int) -> np.ndarray:
    """Uint64 [N]: h times 2^64 of each key."""
    seeded, hashes = hashlib.blake2b(f"{seed}:".encode(), digest_size=8), bytearray()
    for key in keys:
        one = seeded.copy()
        one.update(key)
        hashes += one.digest()
    return np.frombuffer(hashes, "<u8").astype(np.uint64)


def cut(
    keys: Iterable[bytes],
    missing: Sequence[Split],
    seed: int,
    where: str,
    unit: str = "different images",
    held_out: HeldOut = TENTHS,
) -> np.ndarray:
    """Int8 [N]: for each training image of `where` its place in `SPLITS` after the cut.

    Images with the same key, in words a `unit`, stay together. Only the `missing` splits are cut.
    A split has at least one image, and at least the number in `held_out`; a share is not exact.

    Raises:
        TooFew: there are too few keys.
    """
    h = shares(keys, seed)
    known, counts = np.unique(h, return_counts=True)
    if len(known) <= len(missing):
        raise TooFew(_too_few(len(h), len(known), len(missing) + 1, where, unit))
    places = np.zeros(len(h), np.int8)
    for split, part in _parts(known, counts, missing, held_out).items():
        places[np.isin(h, part)] = SPLITS.index(split)
    if missing and places.all():
        raise TooFew(
            f"All {len(known)} {unit} of {where} happen to be for {' and '.join(missing)}; add "
            "some, or pass another --data.draw-seed."
        )
    return places


def _parts(
    known: np.ndarray, counts: np.ndarray, missing: Sequence[Split], held_out: HeldOut
) -> dict[Split, np.ndarray]:
    """The values of h of each missing split, from all values in rising order.

    `counts`: how many images have each value.
    """
    tests, border = 0, 0
    if "test" in missing or all(isinstance(amount, float) for amount in held_out):
        tests, border = _end(known, counts, 0, 0, held_out.test)
    held, _ = _end(known, counts, tests, border, held_out.validation)
    if len(missing) == 2:
        held = max(held, 2)
        tests = min(max(tests, 1), held - 1)
    ranges: dict[Split, np.ndarray] = {"test": known[:tests], "validation": known[tests:held]}
    return {split: ranges[split] if len(ranges[split]) else known[:1] for split in missing}


def _end(
    known: np.ndarray, counts: np.ndarray, start: int, border: int, amount: float
) -> tuple[int, int]:
    """Where a split ends that begins at `known[start]`, and h times 2^64 there.

    `border`: h times 2^64 where it begins.
    """
    if isinstance(amount, float):
        border += int(Fraction(str(amount)) * 2**64)
        if border >= 2**64:
            return len(known), border
        return int(np.searchsorted(known, np.uint64(border))), border
    end = start + 1 + int(np.searchsorted(np.cumsum(counts[start:]), amount))
    end = min(end, len(known))
    return end, int(known[end - 1]) + 1


def complete(
    splits: Mapping[str, Images],
    seed: int,
    where: str,
    keys: Sequence[bytes] | None = None,
    held_out: HeldOut = TENTHS,
) -> tuple[Images, Images, Images]:
    """Train, validation and test; a missing one is cut from train by content.

    `keys`: a hash of each training image as it is in its file; that of its pixels if not given.
    """
    check_splits(splits, where)
    missing = missing_of(splits)
    if missing:
        train = splits["train"]
        keys = keys_of(digests(train)) if keys is None else keys
        places = cut(keys, missing, seed, where, held_out=held_out)
        parts = {name: np.flatnonzero(places == SPLITS.index(name)) for name in SPLITS}
        splits = {**splits} | {name: train.take(parts[name]) for name in ("train", *missing)}
    shapes = {name: tuple(splits[name].levels.shape[1:]) for name in SPLITS}
    if len(set(shapes.values())) > 1:
        raise InputError(
            f"The splits of {where} differ in shape, {shapes}; use images of one shape."
        )
    return splits["train"], splits["validation"], splits["test"]


def missing_of(splits: Container[str]) -> list[Split]:
    """The splits that must be cut from train."""
    return [name for name in SPLITS if name not in splits]


def check_splits(splits: Mapping[str, Sized], where: str) -> None:
    """`InputError` unless there is a split train, and an image in each split that there is."""
    if "train" not in splits:
        raise InputError(
            f"{where} has no training images; add a split or a folder with the name train."
        )
    for name, images in splits.items():
        if not len(images):
            raise InputError(f"{where} has no images in its {name} split; add some or remove it.")


def repeated(digests: np.ndarray, counts: Sequence[int]) -> int:
    """Number of different images that are in more than one split.

    `digests` has those of all splits in turn, which have `counts` images.
    """
    parts = np.split(digests, np.cumsum(counts)[:-1])
    found, times = np.unique(
        np.concatenate([np.unique(part) for part in parts]), return_counts=True
    )
    return int((times > 1).sum()) if len(found) else 0


def _too_few(count: int, known: int, needed: int, where: str, unit: str) -> str:
    if known == count:
        images = "1 training image" if count == 1 else f"{count} training images"
        return f"{where} has {images}, too few to split; give at least {needed}."
    return (
        f"The {count} training images of {where} are only {known} {unit}, too few to split; give "
        f"at least {needed}, or give the splits yourself."
    )
