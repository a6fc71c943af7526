"""Splits that depend on each image alone.

An image gets a number h in [0, 1), which is a hash of the seed and of its content (or its group).
Those with h < 0.1 are for test, those with 0.1 <= h < 0.2 for validation, the others for training.
If these are fewer than one for each, the images with the lowest h are. So an image that is added
can move others into the training set, and never a training image out of it.
"""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence, Sized

import numpy as np

from limner.data.dataset import SPLITS, Images, Split
from limner.data.needs import TooFew
from limner.errors import InputError

_TENTH = np.uint64(2**64 // 10)


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
) -> np.ndarray:
    """Int8 [N]: for each training image of `where` its place in `SPLITS` after the cut.

    Images with the same key, in words a `unit`, stay together. Only the `missing` splits are cut.

    Raises:
        TooFew: there are too few keys.
    """
    h = shares(keys, seed)
    known = np.unique(h)
    if len(known) <= len(missing):
        raise TooFew(_too_few(len(h), len(known), len(missing) + 1, where, unit))
    places = np.zeros(len(h), np.int8)
    for split, part in _held_out(known, missing).items():
        places[np.isin(h, part)] = SPLITS.index(split)
    if missing and places.all():
        raise TooFew(
            f"All {len(known)} {unit} of {where} happen to be for {' and '.join(missing)}; add "
            "some, or pass another --data.draw-seed."
        )
    return places


def _held_out(known: np.ndarray, missing: Sequence[Split]) -> dict[Split, np.ndarray]:
    """The values of h of each missing split, from all values in rising order."""
    tests, held = np.searchsorted(known, [_TENTH, 2 * _TENTH])
    if len(missing) == 2:
        held = max(held, 2)
        tests = min(max(tests, 1), held - 1)
    ranges: dict[Split, np.ndarray] = {"test": known[:tests], "validation": known[tests:held]}
    return {split: ranges[split] if len(ranges[split]) else known[:1] for split in missing}


def complete(
    splits: Mapping[str, Images], seed: int, where: str, contents: np.ndarray | None = None
) -> tuple[Images, Images, Images]:
    """Train, validation and test; a missing one is about a tenth of train, cut by content.

    `contents`: uint64 [N], a hash of each training image as it is in its file; that of its pixels
    if not given.
    """
    check_splits(splits, where)
    missing = missing_of(splits)
    if missing:
        train = splits["train"]
        hashes = digests(train) if contents is None else contents
        places = cut(keys_of(hashes), missing, seed, where)
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
