"""Pictures that were decoded into a draft: checked, split and stored in the cache."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limner.data import cache
from limner.data.census import Census
from limner.data.config import DataConfig
from limner.data.dataset import SPLITS, Found, Images, Source, Split
from limner.data.needs import TooFew, unsplit
from limner.data.pictures import PICTURE_SUFFIXES, supported
from limner.data.splits import check_splits, cut, missing_of
from limner.data.stored import Draft, Plan, open_source, settle
from limner.errors import InputError
from limner.progress import warn

FORM = 2
"""Version of how pictures become rows of the cache."""
_FEW = 1000
"""Pictures that are kept in memory at most, to be shown if they cannot be split."""


@dataclass(eq=False)
class Gathered:
    """Pictures of one source, read or not, in the order of their rows in a draft.

    `splits`: int8 [N], the place in `SPLITS` of each; `groups`: what decides which split a training
    picture goes to, if not its pixels. `others`: number of files that are no pictures, by suffix.
    """

    census: Census
    config: DataConfig
    splits: np.ndarray
    groups: Sequence[bytes] | None = None
    labels: np.ndarray | None = None
    names: Sequence[str] | None = None
    class_names: tuple[str, ...] | None = None
    others: Counter[str] = field(default_factory=Counter)

    def check(self, size: tuple[int, int]) -> None:
        """Refuse pictures that cannot be trained on; the sentence names the flag that helps.

        `size` is the height and width of the rows of the draft.
        """
        if self.config.size is None:
            self.census.check_sizes(size)
        if not self.config.skip_damaged or not self.census.sizes:
            self.census.check_skipped(self.others)
        if self.config.range is None:
            self.census.check_peaks()

    def store(self, key: str, draft: Path, size: tuple[int, int]) -> Source:
        """The splits from the cache, where they are written with this key."""
        where = self.census.where
        channels, why = self.census.colours(self.config.colour)
        rows = _PictureDraft(draft, size, channels, slots(self.config), self.census)
        try:
            splits = self._cut()
        except TooFew as error:
            error.source = self._few((channels, *size), rows)
            raise
        if why:
            warn(f"{where}: {why}")
        found = replace(self._found(), shared_groups=self._shared(splits))
        plan = Plan(where, splits, self.labels, self.names, self.class_names, found)
        settle(key, plan, (channels, *size), rows)
        source = open_source(key)
        if source is None:
            raise InputError(f"The images of {where} vanished from {cache.folder()}; try again.")
        return source

    def _found(self) -> Found:
        sizes, modes = dict(self.census.sizes), dict(self.census.modes)
        return Found(sizes, modes, self.census.skipped(self.others))

    def _few(self, image_shape: tuple[int, int, int], rows: "_PictureDraft") -> Source | None:
        """The pictures in memory, in the splits that are given; None if they are many."""
        read, given = np.frombuffer(self.census.read, np.uint8) > 0, dict[str, Images]()
        if len(read) > _FEW:
            return None
        for place, split in enumerate(SPLITS):
            chosen = np.flatnonzero(read & (self.splits == place))
            levels = np.empty((len(chosen), *image_shape), np.uint8)
            np.concatenate([levels[:0], *rows.blocks(chosen)], out=levels)
            labels = None if self.labels is None else self.labels[chosen].astype(np.int64)
            known = labels is not None and bool((labels >= 0).all())
            given[split] = Images(
                torch.from_numpy(levels), torch.from_numpy(labels) if known else None
            )
        return unsplit(given, self.class_names, self._found())

    def _cut(self) -> np.ndarray:
        """The split of each picture, -1 if it could not be read."""
        read = np.frombuffer(self.census.read, np.uint8) > 0
        splits, where = self.splits.copy(), self.census.where
        given: dict[Split, np.ndarray] = {
            split: np.flatnonzero(read & (splits == place)) for place, split in enumerate(SPLITS)
        }
        named = {split: rows for split, rows in given.items() if place_of(split) in splits}
        check_splits(named, where)
        missing = missing_of(named)
        if missing:
            keys = map(self._unit, named["train"].tolist())
            unit = "different pictures" if self.groups is None else "groups"
            splits[named["train"]] = cut(keys, missing, self.config.draw_seed, where, unit)
        splits[~read] = -1
        return splits

    def _unit(self, row: int) -> bytes:
        if self.groups is not None:
            return self.groups[row]
        return bytes(self.census.contents[16 * row : 16 * row + 16])

    def _shared(self, splits: np.ndarray) -> int:
        """Number of groups that have pictures in several splits."""
        if self.groups is None:
            return 0
        first: dict[bytes, int] = {}
        pairs = [(g, s) for g, s in zip(self.groups, splits.tolist(), strict=True) if s >= 0]
        return len({group for group, split in pairs if first.setdefault(group, split) != split})


def slots(config: DataConfig) -> int:
    """Channels for which a row of a draft has room."""
    return 1 if config.colour == "grey" else 3


def settings(config: DataConfig) -> dict[str, Any]:
    """All that the rows of the cache depend on, besides the files."""
    import PIL

    kept = ("fit", "colour", "range", "group_by", "draw_seed", "skip_damaged")
    formats = [supported(suffix) for suffix in sorted(PICTURE_SUFFIXES)]
    own = {"form": FORM, "pillow": PIL.__version__, "formats": formats, "size": config.height_width}
    return {name: getattr(config, name) for name in kept} | own


def report(source: Source, where: str) -> Source:
    """`source`, after a line for files that were skipped, and one for duplicates."""
    found = source.found or Found()
    if found.skipped:
        warn(f"{where}: skipped {found.skipped}.")
    if found.duplicates:
        images = "picture is" if found.duplicates == 1 else "pictures are"
        warn(
            f"{where}: {found.duplicates:,} {images} in more than one split, pixel by pixel; "
            "results on them show what was remembered."
        )
    if found.shared_groups:
        groups = "group is" if found.shared_groups == 1 else "groups are"
        warn(
            f"{where}: {found.shared_groups:,} {groups} in more than one of its split folders; "
            "move each to one, or put all pictures together and --data.group-by splits them."
        )
    return source


def place_of(split: Split) -> int:
    """The place of a split in `SPLITS`."""
    return SPLITS.index(split)


class _PictureDraft(Draft):
    """Rows of which some are grey, and begin with [H, W], and the others are [H, W, 3]."""

    def __init__(
        self, path: Path, size: tuple[int, int], channels: int, slots: int, census: Census
    ):
        super().__init__(path, (*size, slots), len(census.read))
        self._size, self._channels = size, channels
        self._coloured = np.frombuffer(census.coloured, np.uint8) > 0

    def shaped(self, block: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Images [n, C, H, W]."""
        height, width = self._size
        grey = block[:, : height * width].reshape(-1, 1, height, width)
        if self._channels == 1:
            return grey
        images = np.repeat(grey, 3, axis=1)
        chosen = self._coloured[rows]
        images[chosen] = block[chosen].reshape(-1, height, width, 3).transpose(0, 3, 1, 2)
        return images
