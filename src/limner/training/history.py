"""The figures of a training, one record for each validation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Self, overload

from limner import notebook
from limner.errors import InputError, unknown
from limner.training.runs import Run

Record = dict[str, Any]
ROWS = 10
"""Rows of the table in a notebook."""
FIRST = 2
"""Rows from the start, if there are more."""
_TABLE = {
    "epoch": "epoch",
    "seconds": "minutes",
    "train.elbo": "training -ELBO",
    "validation.elbo": "validation -ELBO",
    "validation.reconstruction": "reconstruction",
    "validation.kl": "KL",
    "images_per_second": "images/s",
}


class History(Sequence[Record]):
    """The records of a training, in order: each a dictionary, as a line of metrics.jsonl.

    A record has `epoch`, `step`, `seconds`, `learning_rate`, `beta`, `images_per_second` and
    `skipped_steps`, and the figures `elbo`, `reconstruction`, `kl` and `kl_per_group` of `train`
    and `validation`, in nats per image, each None if it was not finite. `history[-1]` is the last
    record, and `history["validation.elbo"]` the list of a figure in all records.
    """

    def __init__(self, records: Iterable[Mapping[str, Any]] = ()):
        self._records: list[Record] = [dict(record) for record in records]

    @classmethod
    def read(cls, run: Run | str | Path) -> Self:
        """The history of a run.

        Raises:
            InputError: there is no such run, or its metrics.jsonl is damaged.
        """
        return cls((run if isinstance(run, Run) else Run.open(run)).metrics())

    def append(self, record: Mapping[str, Any]) -> None:
        self._records.append(dict(record))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the figures, such as `epoch` and `validation.elbo`."""
        return tuple(dict.fromkeys(name for record in self._records for name in _flat(record)))

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each record and the figures of `columns`.

        The KL of each group is a list. A figure that was not finite is missing (NaN).

        Raises:
            InputError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError:
            raise InputError("Pandas is not installed; run pip install pandas.") from None
        return pandas.DataFrame([_flat(record) for record in self._records], columns=self.columns)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> "History": ...
    @overload
    def __getitem__(self, place: str) -> list[Any]: ...
    def __getitem__(self, place: int | slice | str) -> "Record | History | list[Any]":
        if isinstance(place, str):
            return self._column(place)
        return History(self._records[place]) if isinstance(place, slice) else self._records[place]

    def _column(self, name: str) -> list[Any]:
        """The figure `name` of all records; None in a record that lacks it."""
        if self._records and name not in self.columns:
            raise unknown("column", name, self.columns)
        return [_flat(record).get(name) for record in self._records]

    def __eq__(self, other: object) -> bool:
        return self._records == other._records if isinstance(other, History) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not self._records:
            return "History(no records)"
        last = _flat(self._records[-1])
        epoch, bound = last.get("epoch"), _shown("validation.elbo", last.get("validation.elbo"))
        return f"History({len(self)} records, epoch {epoch:g}, validation -ELBO {bound} nats)"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings, and rows of text: the first and the last records."""
        known = [name for name in _TABLE if name in self.columns]
        rows = [[_shown(name, _flat(record).get(name)) for name in known] for record in self]
        if len(rows) > ROWS:
            rows = [*rows[:FIRST], ["…"] * len(known), *rows[FIRST - ROWS :]]
        return [_TABLE[name] for name in known], rows

    def _repr_html_(self) -> str:
        if not self._records:
            return notebook.page(notebook.note("no records yet"))
        epochs = self["epoch"]
        lines = {
            f"{split} -ELBO": [None if value is None else -value for value in self[f"{split}.elbo"]]
            for split in ("validation", "train")
            if f"{split}.elbo" in self.columns
        }
        caption = "-ELBO by epoch, nats per image: validation (line), training (orange dashes)"
        return notebook.page(
            notebook.curves(epochs, lines) + notebook.note(caption) if lines else "",
            notebook.table(*self.table()),
        )


def _flat(record: Mapping[str, Any]) -> Record:
    """The figures of a record by dotted name."""
    flat: Record = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": figure for inner, figure in _flat(value).items()}
        else:
            flat[name] = value
    return flat


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "epoch":
        return f"{value:g}"
    if name == "seconds":
        return notebook.number(value / 60, 1)
    if name.endswith((".elbo", ".reconstruction")):
        return notebook.number(-value, 2)
    return notebook.number(value, 0 if name == "images_per_second" else 2)
