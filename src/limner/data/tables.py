"""Tables of pixels as text, one image a line, such as Kaggle's label, pixel0 ... pixel783."""

from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress, islice
from pathlib import Path
from typing import IO

import numpy as np

from limner.data.keys import LABELS
from limner.data.layouts import squares
from limner.data.numpy_files import FileArray
from limner.errors import InputError
from limner.progress import warn

_LONGEST_LINE = 2**26
_SAMPLE = 1000
"""Rows that decide which column has the labels."""
_NOT_PIXELS = ("", "id", "index", "usage", "unnamed: 0")


@dataclass(frozen=True)
class _Table:
    """A text file: its delimiter (None: blanks), lines before the numbers, and what these are.

    `whole`: all numbers are whole; `words`: the columns that have no numbers.
    """

    path: Path
    delimiter: str | None
    header: int
    rows: int
    columns: int
    whole: bool
    words: tuple[int, ...]

    def text(self, rows: int) -> Iterator[list[str]]:
        """Lines that are not blank, `rows` at a time."""
        with self.path.open("rb") as file:
            lines = islice(_lines(file, self.path), self.header, None)
            while block := [line.decode("latin-1") for line in islice(lines, rows)]:
                yield block

    def parsed(self, lines: list[str], columns: Sequence[int], dtype: type) -> np.ndarray:
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
        lines = _lines(file, path)
        first = next(lines, b"").decode("latin-1").strip()
        if not first or (not first.isprintable() and not set(first) & set("\t")):
            raise InputError(f"{path} is no table of numbers; save the images as .npz.")
        delimiter = max(",;\t", key=first.count)
        delimiter = delimiter if delimiter in first else None
        second = next(lines, b"")
        names, row = (_words(line, delimiter) for line in (first, second.decode("latin-1")))
        header = int(_is_header(names, row))
        words = _words_in(row if header else names)
        rows, whole = 0, True
        for line in chain([] if header else [first.encode("latin-1")], [second], lines):
            rows += bool(line)
            whole = whole and _is_whole(line, words, delimiter)
    if not rows:
        raise InputError(f"{path} has no images, only names of columns.")
    table = _Table(path, delimiter, header, rows, len(names), whole, words)
    return table, names if header else []


def _is_whole(line: bytes, words: tuple[int, ...], delimiter: str | None) -> bool:
    """Whether all numbers of a line are whole, apart from these columns of words."""
    if words:
        parts = line.split(None if delimiter is None else delimiter.encode())
        line = b"".join(part for place, part in enumerate(parts) if place not in words)
    return not line.translate(None, b'0123456789+-,;" \t\r\n')


def _words_in(row: list[str]) -> tuple[int, ...]:
    """The columns in which a row does not have a number, such as names of files."""
    return tuple(place for place, word in enumerate(row) if word and not _is_number(word))


def _words(line: str, delimiter: str | None) -> list[str]:
    return [word.strip().strip('"').strip() for word in line.split(delimiter)]


def _is_header(names: list[str], row: list[str]) -> bool:
    """Whether words are names of columns, above this row; pandas numbers columns without names."""
    numbers = [name for name in names if _is_number(name)]
    runs = [[str(start + place) for place in range(len(numbers))] for start in (0, 1)]
    if numbers in runs and len(numbers) > 1 and names != row:
        return True
    if not any(row):
        return len(numbers) < len(names)
    pairs = zip(names, row, strict=False)
    return sum(bool(name) and not _is_number(name) and _is_number(word) for name, word in pairs) > 1


def _columns(
    table: _Table, names: list[str], wanted: tuple[int, ...] | None
) -> tuple[list[int], int | None]:
    """The columns of pixels, and that of the labels if there is one."""
    lower = [name.lower() for name in names] or ["pixel"] * table.columns
    label = next((place for place, name in enumerate(lower) if name in LABELS), None)
    pixels = [
        place
        for place, name in enumerate(lower)
        if name not in _NOT_PIXELS and name not in LABELS and place not in table.words
    ]

    def fits(count: int) -> bool:
        return count == int(np.prod(wanted)) if wanted else len(squares(count)) > 0

    if not pixels:
        raise InputError(
            f"{table.path} has no columns of pixels; give the images themselves, for example the "
            "folder of the files that it names."
        )
    if label is None and table.words:
        label = _repeating(table, table.words)
    elif label is None and not fits(len(pixels)) and fits(len(pixels) - 1):
        label = _like_classes(table, pixels)
        pixels.remove(label)
    else:
        return pixels, label
    taken = "No column" if label is None else f"Column {label + 1} of {table.columns}"
    warn(f"{table.path}: {taken} is taken as the classes; name it label if it is another.")
    return pixels, label


def _repeating(table: _Table, columns: Sequence[int]) -> int | None:
    """The column with the fewest different words; None if no word is in two rows."""
    some = _sample(table, columns)
    counts = [len(set(column)) for column in some]
    fewest = min(counts)
    return columns[counts.index(fewest)] if fewest < len(some[0]) else None


def _like_classes(table: _Table, columns: list[int]) -> int:
    """The first column or the last, whichever looks more like classes; the first if both do.

    A corner of images is often constant; classes are usually 0 to K - 1 or 1 to K, or few.
    """
    ends = [columns[0], columns[-1]]
    first, last = _sample(table, ends)
    values = [set(first), set(last)]
    if min(map(len, values)) == 1:
        return ends[int(len(values[0]) == 1 < len(values[1]))]
    runs = [_is_run(found) and 2 * len(found) <= len(first) for found in values]
    if runs[0] != runs[1]:
        return ends[runs.index(True)]
    return ends[int(not any(runs) and 4 * len(values[1]) <= len(values[0]))]


def _is_run(words: set[str]) -> bool:
    """Whether words are the numbers 0 to K - 1, or 1 to K."""
    numbers = sorted(float(word) for word in words if _is_number(word))
    runs = [[start + place for place in range(len(words))] for start in (0, 1)]
    return numbers in runs


def _sample(table: _Table, columns: Sequence[int]) -> np.ndarray:
    """Words [columns, rows] of rows all over the table, whose rows may be sorted by class."""
    chosen = np.random.RandomState(0).permutation(table.rows) < _SAMPLE
    lines = chain.from_iterable(table.text(_SAMPLE))
    return table.parsed(list(compress(lines, chosen)), columns, str).T


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _lines(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """Lines of a file that are not blank, without its byte order mark.

    `InputError` for one that is too long to be an image.
    """
    if file.read(len(BOM_UTF8)) != BOM_UTF8:
        file.seek(0)
    for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
        if len(line) == _LONGEST_LINE:
            raise InputError(f"{path} has a line of more than 64 MiB; save the images as .npz.")
        if not line.isspace():
            yield line
