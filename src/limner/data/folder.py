"""Pictures in a folder or a zip, with or without a subfolder for each class."""

import contextlib
import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limner.data import cache
from limner.data.census import UNREAD, Census, is_read, suffix_of
from limner.data.config import DataConfig
from limner.data.dataset import Source
from limner.data.decoding import Decoder, Doing
from limner.data.gathered import Gathered, place_of, report, settings, slots
from limner.data.listing import Listing, listed, sorted_out
from limner.data.pictures import PICTURE_SUFFIXES
from limner.data.stored import drafted, open_source
from limner.data.workers import answers, batches
from limner.errors import InputError
from limner.progress import progress_bar

_NAMES = (
    ".txt .json .jsonl .csv .tsv .xml .yaml .yml .md .html .htm .pdf .py .ipynb .log .db .ini .cfg "
    ".npy .npz .pt .pth .mat .pkl .h5 .parquet .zip .tar .gz .tgz .mp4 .avi .mov .mp3 .wav"
)
_NO_PICTURES = frozenset(_NAMES.split())
_TICK = 0.05
"""Seconds in which a file can change and keep its time of change."""


def load_folder(root: Path, config: DataConfig) -> Source:
    """The pictures in a folder or a zip, from the cache, where they are decoded to first.

    Subfolders are classes, numbered in the order of their names. Subfolders that mean train,
    validation and test are splits, each with or without classes. Missing splits are cut from train
    by the pixels of each file, or its group.
    """
    listing = listed(root)
    quick = _quick_alias(listing, config)
    source = _known(quick)
    if source is None:
        with cache.locked(quick, str(root)):
            source = _known(quick) or _Reading(listing, config).source(quick)
    return report(source, str(root))


def _known(alias: str) -> Source | None:
    key = cache.known(alias)
    return None if key is None else open_source(key)


class _Reading:
    """The pictures of a listing on their way into the cache."""

    def __init__(self, listing: Listing, config: DataConfig):
        self.listing, self.config, self.where = listing, config, str(listing.root)
        self.census, self.others = Census(self.where), Counter[str]()
        self.probe = self._decoder()
        with contextlib.closing(self.probe):
            places = [place for place, name in enumerate(listing.names) if self._is_picture(name)]
        self.names = [listing.names[place] for place in places]
        self.bytes = listing.stats[places, 0].tolist()
        for name in listing.unreadable:
            if suffix_of(name) not in _NO_PICTURES:
                self.census.fails(name, "unreadable", "it is no file or folder that can be opened")
        left_out = (self.census.unread, self.others)
        self.left_out = [sorted(counts.items()) for counts in left_out]
        if not self.names:
            self.census.check_skipped(self.others)
            skipped = self.census.skipped(self.others)
            raise InputError(
                f"{self.where} has no pictures{f', only {skipped}' if skipped else ''}; give a "
                "folder or zip of PNG, JPEG, WebP, TIFF, BMP, GIF or PPM files."
            )

    def source(self, quick: str) -> Source:
        """The pictures from the cache: from an entry of the same content, or a new one."""
        gathered, config = self._gathered(), self.config
        alike = cache.key_of("alike", _hash_of(self.names), self.bytes, settings(config))
        changes_show = _is_settled(self.listing)
        key = source = None
        if cache.known(alike) is not None:
            key = self._key(self._digests())
            source = open_source(key)
        if key is None or source is None:
            with contextlib.closing(self.probe):
                size = config.height_width or self._first_size()
            row_bytes = slots(config) * size[0] * size[1]
            with drafted(quick, len(self.names) * row_bytes) as draft:
                self._decode(self._decoder(str(draft), size, row_bytes))
                gathered.check(size)
                key = self._key(bytes(self.census.digests))
                source = gathered.store(key, draft, size)
        for alias in (quick, alike) if changes_show else (alike,):
            cache.remember(alias, key)
        return source

    def _gathered(self) -> Gathered:
        """The pictures with their splits and classes."""
        found = sorted_out(self.listing, self.names)
        groups = _groups(self.names, self.config.group_by, self.where)
        return Gathered(
            self.census,
            self.config,
            np.array([place_of(split) for split in found.splits], np.int8),
            groups,
            None if found.class_names is None else found.classes,
            self.names,
            found.class_names,
            self.others,
        )

    def _is_picture(self, name: str) -> bool:
        """Whether a file is to be read, by its name, and if that says nothing by its content."""
        suffix = suffix_of(name)
        if suffix in PICTURE_SUFFIXES:
            return True
        if suffix in UNREAD:
            self.census.fails(name, "unsupported", f"{suffix} is a format that Limner cannot read")
            return False
        if suffix not in _NO_PICTURES and self.probe.may_be_picture(name):
            return True
        self.others[suffix or "without suffix"] += 1
        return False

    def _first_size(self) -> tuple[int, int]:
        """Height and width of the first picture that can be decoded: headers may be wrong."""
        for name in self.names:
            answer = self.probe.answer("decode", 0, [name])[0]
            if is_read(answer):
                return answer[2], answer[1]
        return 1, 1

    def _digests(self) -> bytes:
        parts = self._answers(self._decoder(), lambda: "digest")
        return b"".join(bytes.fromhex(answer[0]) or bytes(16) for part in parts for answer in part)

    def _decode(self, decoder: Decoder) -> None:
        """Decode all files into the draft; only measure the rest if there are several sizes."""
        census, row = self.census, 0
        mixed = self.config.size is None
        for part in self._answers(
            decoder, lambda: "measure" if mixed and len(census.sizes) > 1 else "decode"
        ):
            for answer in part:
                census.add(self.names[row], answer)
                row += 1

    def _key(self, digests: bytes) -> str:
        parts = (_hash_of(self.names), hashlib.blake2b(digests).hexdigest(), self.left_out)
        unreadable = _hash_of(self.listing.unreadable)
        return cache.key_of("pictures", *parts, unreadable, settings(self.config))

    def _decoder(
        self, draft: str = "", size: tuple[int, int] | None = None, row_bytes: int = 0
    ) -> Decoder:
        config = self.config
        fit = None if config.size is None else config.fit
        root, is_zip = self.where, self.listing.is_zip
        return Decoder(root, is_zip, draft, row_bytes, size, fit, config.colour, config.range)

    def _answers(self, decoder: Decoder, doing: Callable[[], Doing]) -> Iterator[list[list]]:
        names, done = self.names, 0

        def jobs() -> Iterator[dict[str, Any]]:
            for part in batches(self.bytes):
                yield {"doing": doing(), "start": part.start, "names": names[part]}

        into = f"into {cache.folder()}"
        display = progress_bar(f"reading {self.where}", len(names), "pictures", into)
        with display as show, cache.storing():
            for answer in answers(decoder, jobs(), len(names), sum(self.bytes)):
                done += len(answer)
                show(done, "")
                yield answer


def _groups(names: list[str], pattern: str | None, where: str) -> list[bytes] | None:
    """For each name what the pattern matches in it: its groups, or all if it has none."""
    if pattern is None:
        return None
    expression, found = re.compile(pattern), []
    for name in names:
        match = expression.search(name)
        if match is None:
            raise InputError(
                f"--data.group-by {pattern} does not match {name} in {where}; correct the pattern."
            )
        text = "\0".join([group or "" for group in match.groups()] or [match[0]])
        found.append(text.encode("utf-8", "surrogateescape"))
    return found


def _quick_alias(listing: Listing, config: DataConfig) -> str:
    """An alias that changes if any file does, computed without reading files."""
    state = listing.root.stat()
    own = [state.st_size, state.st_mtime_ns, state.st_ctime_ns] if listing.is_zip else []
    stats = hashlib.blake2b(listing.stats.tobytes()).hexdigest()
    names = (listing.names, sorted(listing.folders), listing.unreadable)
    root = [str(listing.root.resolve())]
    return cache.key_of("quick", *map(_hash_of, (root, *names)), own, stats, settings(config))


def _hash_of(names: Sequence[str]) -> str:
    return hashlib.blake2b("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def _is_settled(listing: Listing) -> bool:
    """Whether any change of a file from now on shows in its time of change."""
    times = [listing.root.stat().st_mtime_ns] if listing.is_zip else listing.stats[:, 1:3]
    return float(np.max(times)) / 1e9 + _TICK < time.time()
