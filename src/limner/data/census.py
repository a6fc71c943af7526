"""What was met in a set of picture files, and whether it can be trained on."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from os.path import splitext

from limner.data.needs import NeedsSetting
from limner.errors import InputError

_UNREAD = (
    ".svg .psd .jxl .jp2 .j2k .jpx .ico .tga .dds .exr .hdr .eps .pcx .xcf .fits .dcm .raw .cr2 "
    ".cr3 .nef .arw .dng .orf .rw2 .raf .pef"
)
UNREAD = frozenset(_UNREAD.split())
"""Suffixes of pictures in formats that Limner does not read."""
_LONGEST_LIST = 3
_SHARE = 0.1
"""The share of files in formats that cannot be read from which the rest are not all there is."""


def suffix_of(name: str) -> str:
    """The suffix of a file in lower case, with its dot."""
    return splitext(name)[1].lower()


def is_read(answer: list) -> bool:
    """Whether the answer of a `Decoder` is that the file is a picture."""
    return len(answer) > 4


def _words(height: int, width: int) -> str:
    return f"{width} x {height}"


def _sides(size: str) -> tuple[int, int]:
    width, height = size.split(" x ")
    return int(width), int(height)


def size_range(sizes: Mapping[str, int]) -> str:
    """Such as 589 sizes from 60 x 62 to 199 x 199, by the number of pixels."""
    rising = sorted(sizes, key=lambda size: (math.prod(_sides(size)), _sides(size)))
    return f"{len(sizes):,} sizes from {rising[0]} to {rising[-1]}"


def _sensible_side(sizes: Counter[str]) -> int:
    """The largest power of two, 64 at most, that is not above the median smaller side."""
    median = statistics.median(min(_sides(size)) for size in sizes.elements())
    return min(64, 2 ** (int(median).bit_length() - 1))


@dataclass
class Census:
    """The pictures of `where` one by one, with what reading each of them said.

    `digests` of the files and `contents`, hashes of the pixels: 16 bytes for each file in turn;
    `read` and `coloured`: one byte each.
    """

    where: str
    digests: bytearray = field(default_factory=bytearray)
    contents: bytearray = field(default_factory=bytearray)
    read: bytearray = field(default_factory=bytearray)
    coloured: bytearray = field(default_factory=bytearray)
    sizes: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    peaks: dict[int, int] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    bad: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    first_coloured: str = ""

    def add(self, name: str, answer: list) -> None:
        """Note the answer of a decoder on one file."""
        self.digests += bytes.fromhex(answer[0]) or bytes(16)
        self.read.append(is_read(answer))
        if not is_read(answer):
            self.contents += bytes(16)
            self.coloured.append(False)
            self.fails(name, *answer[1:])
            return
        _, width, height, mode, depth, peak, coloured, content = answer
        self.contents += bytes.fromhex(content) or bytes(16)
        self.coloured.append(coloured)
        if coloured and not self.first_coloured:
            self.first_coloured = name
        size = _words(height, width)
        self.sizes[size] += 1
        self.modes[mode] += 1
        self.examples.setdefault(size, name)
        self.peaks[depth] = max(peak, self.peaks.get(depth, 0))

    def fails(self, name: str, kind: str, reason: str, form: str = "") -> None:
        """Note a file that cannot be read; `form` is its format, if Limner does not read that."""
        if kind == "range":
            raise InputError(f"{name} in {self.where}: {reason}.")
        if kind == "unsupported":
            suffix = suffix_of(name) or "no suffix"
            hidden = form and suffix not in UNREAD | {".heic", ".heif", ".avif"}
            self.unread[f"{form} named {suffix}" if hidden else suffix] += 1
        else:
            self.counts[kind] += 1
            self.bad.setdefault(kind, [])
            self.bad[kind] += [name] if self.counts[kind] <= _LONGEST_LIST else []
        self.reasons.setdefault(kind, reason)

    def skipped(self, others: Counter[str]) -> str:
        """Files that were not read, by kind, such as 1,000 .heic, 1 truncated: photo_17.jpg.

        `others`: number of files that are no pictures, by suffix.
        """
        parts = [f"{count:,} {suffix}" for suffix, count in self.unread.most_common()]
        for kind, count in self.counts.most_common():
            few = f": {', '.join(self.bad[kind])}" if count <= _LONGEST_LIST else ""
            parts.append(f"{count:,} {kind}{few}")
        parts += [f"{count:,} {suffix}" for suffix, count in others.most_common(5)]
        return ", ".join(parts)

    def check_skipped(self, others: Counter[str]) -> None:
        """Refuse damaged files, or if more than a tenth are in formats that cannot be read."""
        left_out = sum(self.unread.values())
        if not self.counts and left_out <= _SHARE * (left_out + sum(self.sizes.values())):
            return
        reason = self.reasons.get("unsupported") or next(iter(self.reasons.values()))
        what = f"{self.where} has files that cannot be read as pictures, {self.skipped(others)}"
        if not self.sizes:
            raise InputError(
                f"{what} ({reason}); no file is left without them, so give other pictures."
            )
        raise NeedsSetting(
            f"{what} ({reason}); remove or replace them, or leave them out with "
            "--data.skip-damaged.",
            "skip_damaged",
            True,
        )

    def check_sizes(self, expected: tuple[int, int]) -> None:
        """Refuse images of several sizes, or not of the expected height and width."""
        if len(self.sizes) < 2:
            if self.sizes and _words(*expected) not in self.sizes:
                raise InputError(f"The files of {self.where} changed while read; try again.")
            return
        shown = ", ".join(
            f"{count:,} of {size} ({self.examples[size]})"
            for size, count in self.sizes.most_common(_LONGEST_LIST)
        )
        side = _sensible_side(self.sizes)
        raise NeedsSetting(
            f"The images of {self.where} have {size_range(self.sizes)} (width x height), such as "
            f"{shown}; pass --data.size, for example --data.size {side}, or HEIGHT WIDTH.",
            "size",
            side,
        )

    def check_peaks(self) -> None:
        """Refuse pictures that are all nearly black, because they use few of their levels."""
        for depth, most, white in ((16, 2**12 - 1, 65535), (8, 15, 255)):
            peak = self.peaks.get(depth, 0)
            if 0 < peak <= most:
                ends = [2**bits - 1 for bits in (8, 10, 12)] if depth == 16 else [peak]
                guess = next(end for end in ends if end >= peak)
                raise InputError(
                    f"The {depth}-bit pictures of {self.where} are nearly black, with values up to "
                    f"{peak}; pass --data.range 0 {guess} if {guess} is white, or --data.range 0 "
                    f"{white} to keep them."
                )

    def colours(self, colour: str) -> tuple[int, str]:
        """Number of channels, and a sentence if few of the images are why there are three."""
        count, few = sum(self.read), sum(self.coloured)
        if colour == "grey" or (colour == "auto" and not few):
            return 1, ""
        if colour == "rgb" or few == count or few > max(1, count // 100):
            return 3, ""
        return 3, (
            f"{few:,} of {count:,} pictures {'is' if few == 1 else 'are'} in colour, such as "
            f"{self.first_coloured}, so all become RGB; --data.colour grey makes all grey."
        )
