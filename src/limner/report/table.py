"""The comparison: rows, their text, and the same numbers as CSV."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from markupsafe import Markup

from limner.errors import InputError
from limner.evaluation.comparison import SAME, compare_runs
from limner.report.wording import Stat, duration, mean_of, millions, number, with_error
from limner.training.runs import Run

Row = Mapping[str, Any]


class Cell(NamedTuple):
    """What a cell shows, and the number that it is sorted by."""

    text: str
    value: float | int | None


class Column(NamedTuple):
    heading: Markup
    cell: Callable[[Row], Cell]


class Table(NamedTuple):
    """The comparison as text; in each row the name of the model and its cells."""

    headings: list[Markup]
    rows: list[tuple[str, list[Cell]]]
    csv: str
    """The numbers as a data URI."""
    samples: str
    """K of the importance-weighted bounds."""
    paired: bool
    """Whether gaps are of the same images, one by one."""


def rows_of(runs: Sequence[Run], labels: Sequence[str]) -> list[dict[str, Any]]:
    """A row of the comparison for each run that has results, lowest -ELBO first.

    The gap to the best is paired by image if the values of each image are there. If all runs were
    evaluated on the same images and only means are there, its error is larger: that of a difference
    of independent means. Otherwise there is none.
    """
    named = dict(zip(labels, runs, strict=True))
    evaluated = {name: run for name, run in named.items() if run.results() is not None}
    if not evaluated:
        return []
    try:
        return ordered(compare_runs({name: [run] for name, run in evaluated.items()}))
    except InputError:
        rows = [{**(run.results() or {}), "name": name} for name, run in evaluated.items()]
    rows = ordered(rows)
    return [rows[0], *(row | _unpaired(row, rows[0]) for row in rows[1:])] if alike(rows) else rows


def ordered(rows: Sequence[Row]) -> list[Any]:
    """Lowest -ELBO first, unknown ones last."""

    def cost(row: Row) -> float:
        mean = mean_of(row.get("elbo"))
        return math.inf if mean is None else -mean

    return sorted(rows, key=cost)


def alike(results: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all were evaluated on the same images: of one hash, or else of one description."""
    hashes = {result.get("images") for result in results}
    if None not in hashes:
        return len(hashes) == 1
    return all(len({str(result.get(key)) for result in results}) == 1 for key in (*SAME, "data"))


def _unpaired(row: Row, best: Row) -> dict[str, Any]:
    """The difference to the best of two independent means."""
    errors = [each["elbo"].get("stderr") for each in (row, best)]
    error = None if None in errors else math.hypot(*errors)
    mean = row["elbo"]["mean"] - best["elbo"]["mean"]
    return {"difference_to_best": {"mean": mean, "stderr": error, "paired": False}}


def table(rows: Sequence[Row]) -> Table:
    """Rows of a comparison as text, lowest -ELBO first."""
    rows, samples = ordered(rows), samples_in(rows)
    gaps = [row["difference_to_best"] for row in rows if row.get("difference_to_best")]
    best = rows[0] if rows and (gaps or len(rows) == 1) else None
    columns = _columns(best, mixed=" or " in samples)
    shown = [(row["name"], [column.cell(row) for column in columns]) for row in rows]
    paired = bool(gaps) and all(gap.get("paired", True) for gap in gaps)
    return Table([column.heading for column in columns], shown, as_csv(rows), samples, paired)


def samples_in(rows: Sequence[Row]) -> str:
    """The number of importance samples of the rows, or the numbers if they differ."""
    bounds = [row.get("iw_bound") for row in rows]
    counts = {bound["num_samples"] for bound in bounds if bound and "num_samples" in bound}
    return " or ".join(map(str, sorted(counts)))


def bits_of(results: Mapping[str, Any]) -> Stat:
    """Bits per dimension of the ELBO."""
    bits = results.get("bits_per_dim")
    return bits.get("elbo", bits) if isinstance(bits, Mapping) else bits


def gap_of(row: Row) -> Stat:
    """By how many nats the -ELBO is above the best."""
    difference = row.get("difference_to_best")
    return None if difference is None else {**difference, "mean": abs(difference["mean"])}


def _columns(best: Row | None, mixed: bool) -> list[Column]:
    """The columns of a table in which `best` is best; if rows are `mixed`, with K in each."""

    def nats(key: str, sign: int = 1) -> Callable[[Row], Cell]:
        return lambda row: Cell(with_error(row.get(key), sign), _times(sign, row.get(key)))

    def gap(row: Row) -> Cell:
        found = gap_of(row)
        return Cell("best", 0.0) if row is best else Cell(with_error(found), mean_of(found))

    def bound(row: Row) -> Cell:
        text, value = nats("iw_bound", -1)(row)
        return Cell(f"{text}, K = {samples_in([row])}" if mixed and value else text, value)

    def plain(key: str, worded: Callable[[Any], str]) -> Callable[[Row], Cell]:
        return lambda row: Cell(worded(row.get(key)), row.get(key))

    def bits(row: Row) -> Cell:
        found = mean_of(bits_of(row))
        return Cell(with_error(found, digits=4), found)

    return [
        Column(Markup("−ELBO"), nats("elbo", -1)),
        Column(Markup("gap to best"), gap),
        Column(Markup("reconstruction"), nats("reconstruction", -1)),
        Column(Markup("KL"), nats("kl")),
        Column(Markup("−L<sub>K</sub>"), bound),
        Column(Markup("bits per dimension"), bits),
        Column(Markup("parameters"), plain("parameters", millions)),
        Column(Markup("training"), plain("training_seconds", duration)),
        Column(Markup("images/s"), plain("images_per_second", number)),
    ]


def _times(sign: int, value: Stat) -> float | None:
    mean = mean_of(value)
    return None if mean is None else sign * mean


def as_csv(rows: Sequence[Row]) -> str:
    """The numbers of `rows`, not rounded, as a data URI."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    nats = ("minus_elbo", "gap_to_best", "reconstruction", "kl", "minus_l_k")
    names = [part for name in nats for part in (name, f"{name}_stderr")]
    others = ("parameters", "training_seconds", "images_per_second")
    writer.writerow(["model", *names, "k", "bits_per_dimension", *others])
    for row in rows:
        stats = (
            (row.get("elbo"), -1), (gap_of(row), 1), (row.get("reconstruction"), -1),
            (row.get("kl"), 1), (row.get("iw_bound"), -1),
        )  # fmt: skip
        figures = [
            figure
            for stat, sign in stats
            for figure in (
                _times(sign, stat),
                stat.get("stderr") if isinstance(stat, Mapping) else None,
            )
        ]
        rest = [samples_in([row]), mean_of(bits_of(row)), *(row.get(name) for name in others)]
        writer.writerow([harmless(str(row["name"])), *figures, *rest])
    return "data:text/csv;charset=utf-8," + quote(stream.getvalue())


def harmless(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
