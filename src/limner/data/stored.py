"""Splits of images on disk, made from rows in any order that are too many for memory."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limner.data import cache
from limner.data.dataset import SPLITS, Found, Images, Source
from limner.data.splits import (
    check_splits,
    cut,
    keys_of,
    missing_of,
    repeated,
    row_digests,
    value_digests,
)
from limner.errors import InputError

_AT_ONCE = 2**23
"""Bytes that are copied at once."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Images to be stored, with labels, integers [count], and names if they are known.

    A block has uint8 levels [n, C, H, W], and the numbers [n, ...] in the file that they come from,
    which decide the split.
    """

    count: int
    blocks: Iterable[tuple[np.ndarray, np.ndarray]]
    labels: np.ndarray | None = None
    names: tuple[str, ...] | None = None


@dataclass
class Plan:
    """What is known of the rows of a draft before they are stored.

    `places`: int8 [N], the place in `SPLITS` of each row, negative if it is left out;
    `labels`: integers [N], of which negative ones mean none.
    """

    source: str
    places: np.ndarray
    labels: np.ndarray | None = None
    names: Sequence[str] | None = None
    class_names: tuple[str, ...] | None = None
    found: Found = field(default_factory=Found)


def stored(
    parts: Sequence[object],
    where: str,
    image_shape: tuple[int, int, int],
    given: Mapping[str, Rows],
    seed: int,
    class_names: tuple[str, ...] | None = None,
    found: Found | None = None,
) -> Source:
    """The images of the splits in `given`, from the pixel cache, where they are written first.

    Missing splits are cut from train by content with `seed`. `parts` are values of JSON on which
    the pixels depend, such as the path, size and time of a file, and settings. The blocks are read
    once, or not at all if the cache has the images.
    """
    key = cache.key_of("rows", *parts, where, seed, sorted(given))
    source = open_source(key)
    if source is not None:
        return source
    with cache.locked(key, where):
        source = open_source(key)
        if source is None:
            _write(key, where, image_shape, given, seed, class_names, found or Found())
            source = open_source(key)
    if source is None:
        raise InputError(f"The images of {where} vanished from {cache.folder()}; try again.")
    return source


def open_source(key: str) -> Source | None:
    """The splits of an entry of the cache; None if there is none that is sound."""
    entry = cache.opened(key)
    if entry is None:
        return None
    about, start = entry.about, 0
    splits: list[Images] = []
    names = entry.arrays.get("names")
    files = None if names is None else bytes(names).decode("utf-8", "surrogateescape").split("\0")
    for count in about["splits"]:
        part = slice(start, start + count)
        labels = entry.arrays["labels"][part].copy() if "labels" in entry.arrays else None
        known = labels is not None and bool((labels >= 0).all())
        splits.append(
            Images(
                entry.levels[part],
                torch.from_numpy(labels) if known else None,
                None if files is None else tuple(files[part]),
                entry.arrays["digests"][part],
            )
        )
        start += count
    train, validation, test = splits
    classes = about["class_names"]
    return Source(
        train, validation, test, tuple(classes) if classes else None, Found(**about["found"])
    )


@contextmanager
def drafted(name: str, size: int) -> Iterator[Path]:
    """A file of `size` bytes for rows in the order in which they are read; removed at the end."""
    path = cache.folder() / f".{name}.draft"
    try:
        with cache.storing():
            path.write_bytes(b"")
            os.truncate(path, size)
        yield path
    finally:
        path.unlink(missing_ok=True)


def settle(key: str, plan: Plan, image_shape: tuple[int, ...], draft: "Draft") -> None:
    """Write the rows of a draft to the cache, ordered by split, and by place in the draft."""
    order = [np.flatnonzero(plan.places == place) for place in range(len(SPLITS))]
    counts = [len(part) for part in order]
    rows = np.concatenate(order)
    hashes = np.concatenate([row_digests(block) for part in order for block in draft.blocks(part)])
    arrays = {}
    if plan.labels is not None:
        arrays["labels"] = plan.labels[rows].astype(np.int64)
    if plan.names is not None:
        text = "\0".join([str(plan.names[row]) for row in rows])
        arrays["names"] = np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)
    found = vars(plan.found) | {"duplicates": repeated(hashes, counts)}
    about: dict[str, Any] = {
        "source": plan.source,
        "splits": counts,
        "class_names": plan.class_names,
        "found": found,
    }
    blocks = (block for part in order for block in draft.blocks(part))
    cache.write(key, (len(rows), *image_shape), blocks, arrays, about, hashes)


class Draft:
    """Rows of uint8 `image_shape` in a file."""

    def __init__(self, path: Path, image_shape: tuple[int, ...], count: int):
        self.path, self.image_shape = path, image_shape
        self._shape = (count, math.prod(image_shape))

    def blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Blocks [n, *image_shape] of the rows with these numbers."""
        step = max(1, _AT_ONCE // self._shape[1])
        for start in range(0, len(rows), step):
            # Mapped anew for every block, so that the pages of the last are not kept.
            mapped = np.memmap(self.path, np.uint8, "r", shape=self._shape)
            yield self.shaped(mapped[rows[start : start + step]], rows[start : start + step])

    def shaped(self, block: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """A block of rows as images."""
        return block.reshape(-1, *self.image_shape)


def _write(
    key: str,
    where: str,
    image_shape: tuple[int, int, int],
    given: Mapping[str, Rows],
    seed: int,
    class_names: tuple[str, ...] | None,
    found: Found,
) -> None:
    check_splits({split: range(rows.count) for split, rows in given.items()}, where)
    counts = {split: given[split].count for split in SPLITS if split in given}
    places = np.repeat([SPLITS.index(split) for split in counts], list(counts.values()))
    missing = missing_of(given)
    with drafted(key, len(places) * math.prod(image_shape)) as path:
        hashes = []
        with path.open("r+b", buffering=0) as file:
            for split in counts:
                for levels, values in given[split].blocks:
                    cache.put(file, np.ascontiguousarray(levels).data.cast("B"))
                    hashes += [value_digests(values)] if split == "train" and missing else []
        if missing:
            keys = keys_of(np.concatenate(hashes))
            places[: counts["train"]] = cut(keys, missing, seed, where)
        parts = [given[split] for split in counts]
        named = [name for rows in parts for name in rows.names or ()]
        names = named if len(named) == len(places) else None
        plan = Plan(where, places.astype(np.int8), _labels(parts), names, class_names, found)
        settle(key, plan, image_shape, Draft(path, image_shape, len(places)))


def _labels(given: list[Rows]) -> np.ndarray | None:
    """Those of all rows; -1 in a split that has none. None if no split has any."""
    if all(rows.labels is None for rows in given):
        return None
    none = [np.full(rows.count, -1) if rows.labels is None else rows.labels for rows in given]
    return np.concatenate(none).astype(np.int64)
