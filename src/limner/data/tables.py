"""Tables of pixels as text, one image a line, such as Kaggle's label, pixel0 ... pixel783."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from limner.data.keys import LABELS
from limner.data.layouts import squares
from limner.data.numpy_files import FileArray
from limner.errors import InputError

_LONGEST_LINE = 2**26
_SAMPLE = 1000
"""Lines that decide which column has the labels."""
_NOT_PIXELS = ("", "id", "index", "usage", "unnamed: 0")


@dataclass(frozen=True)
class _Table:
    """A text file: its delimiter (None: blanks), lines before the numbers, and what these are."""

    path: Path
    delimiter: str | None
    header: int
    rows: int
    columns: int
    whole: bool

    def text(self, rows: int) -> Iterator[list[str]]:
        """Lines that are not blank, `rows` at a time."""
        with self.path.open("rb") as file:
            lines = islice((line for line in _lines(file, self.path)), self.header, None)
            while block := [line.decode("latin-1") for line in islice(lines, rows)]:
                yield block

    def parsed(self, lines: list[str], columns: list[int], dtype: type) -> np.ndarray:
        """Some columns of lines, [lines, columns]."""
        try:
            return np.loadtxt(
                lines,
                dtype,
                delimiter=self.delimiter,
                comments=None,
                quotechar='"',
                usecols=columns if len(columns) < self.columns else None,
                ndmin=2,
            )
        except ValueError as error:
            raise InputError(
                f"{self.path} is no table of numbers with {self.columns} columns ({error}); "
                "correct it, or save the images as .npz."
            ) from None


def open_csv(
    path: Path, wanted: tuple[int, ...] | None
) -> tuple[dict[str, FileArray], tuple[int, ...] | None]:
    """The arrays `images` [N, D] and, if there are any, `labels` [N], and the shape of an image.

    The first line may name the columns. Images are square unless `wanted` is their shape.
    """
    table, names = _examined(path)
    pixels, label = _columns(table, names, wanted)
    dtype = np.int64 if table.whole else np.float64

    def images(rows: int) -> Iterator[np.ndarray]:
        return (table.parsed(lines, pixels, dtype) for lines in table.text(rows))

    def labels(rows: int) -> Iterator[np.ndarray]:
        for lines in table.text(rows):
            yield table.parsed(lines, [label or 0], str)[:, 0]

    guesses = squares(len(pixels))
    shape = wanted or (guesses[0] if len(guesses) == 1 else None)
    size = (table.rows, len(pixels))
    found = {"images": FileArray(str(path), size, np.dtype(dtype), images, text=table.whole)}
    if label is not None:
        where = f"{path} [column {label + 1}]"
        found["labels"] = FileArray(where, (table.rows,), np.dtype("U"), labels, text=True)
    return found, shape


def _examined(path: Path) -> tuple[_Table, list[str]]:
    """The table in a file, and the names of its columns, empty if the file has none."""
    with path.open("rb") as file:
        first = next(_lines(file, path), b"").decode("latin-1").removeprefix("\xef\xbb\xbf").strip()
        if not first or (not first.isprintable() and not set(first) & set("\t")):
            raise InputError(f"{path} is no table of numbers; save the images as .npz.")
        delimiter = max(",;\t", key=first.count)
        delimiter = delimiter if delimiter in first else None
        names = [name.strip('"').strip() for name in first.split(delimiter)]
        header = int(not all(map(_is_number, names)))
        rows, whole = 1 - header, header == 1 or "." not in first
        for line in _lines(file, path):
            rows += 1
            whole = whole and b"." not in line
    if not rows:
        raise InputError(f"{path} has no images, only names of columns.")
    return _Table(path, delimiter, header, rows, len(names), whole), names if header else []


def _columns(
    table: _Table, names: list[str], wanted: tuple[int, ...] | None
) -> tuple[list[int], int | None]:
    """The columns of pixels, and that of the labels if there is one."""
    lower = [name.lower() for name in names] or ["pixel"] * table.columns
    label = next((place for place, name in enumerate(lower) if name in LABELS), None)
    pixels = [
        place for place, name in enumerate(lower) if name not in _NOT_PIXELS and name not in LABELS
    ]

    def fits(count: int) -> bool:
        return count == int(np.prod(wanted)) if wanted else len(squares(count)) > 0

    if label is None and not fits(len(pixels)) and fits(len(pixels) - 1):
        label = _varying(table, pixels)
        pixels.remove(label)
    if not pixels:
        raise InputError(f"{table.path} has no columns of pixels.")
    return pixels, label


def _varying(table: _Table, columns: list[int]) -> int:
    """The first column, or the last if only that one varies: a corner of images is often empty."""
    some = table.parsed(next(table.text(_SAMPLE)), [columns[0], columns[-1]], str)
    first, last = (len(set(column)) for column in some.T)
    return columns[-1] if first == 1 < last else columns[0]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _lines(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """Lines that are not blank; `InputError` for one that is too long to be an image."""
    for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
        if len(line) == _LONGEST_LINE:
            raise InputError(f"{path} has a line of more than 64 MiB; save the images as .npz.")
        if not line.isspace():
            yield line
