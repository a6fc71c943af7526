"""Models side by side: one row per model, with the paired gap to the best."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from limner import notebook
from limner.errors import InputError
from limner.evaluation.estimate import Estimate, with_error
from limner.evaluation.evaluation import Evaluation
from limner.training.runs import Run

SAME = ("dataset", "split", "binarization", "draw_seed", "observation", "num_images")
"""What results must have in common to be compared."""
SAME_DATA = ("size", "fit", "colour", "range", "shape", "group_by", "skip_damaged")
"""The settings of the images that they must have in common."""


Subject = Evaluation | Run | str | Path


class Comparison(Sequence[dict[str, Any]]):
    """Models side by side: one row, a dictionary, for each. It shows itself in a notebook."""

    def __init__(self, rows: Iterable[dict[str, Any]]):
        self._rows = list(rows)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return self._rows[place]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        shown = ", ".join(f"{row['name']} {with_error(row['elbo'], 2, -1)}" for row in self)
        return f"Comparison(-ELBO: {shown})"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings, and lines: the name of a figure, then its text for each model."""
        headings, rows = _cells(self)
        return ["", *headings], rows

    def _repr_html_(self) -> str:
        return notebook.page(notebook.table(*self.table()))


def compare(models: Mapping[str, Subject | Sequence[Subject]]) -> Comparison:
    """Models side by side, lower is better; the gap to the best is paired by image.

    Args:
        models: for each name an `Evaluation`, an evaluated run or its path, or a sequence of these:
            the same model trained with several seeds, whose values are averaged for each image.

    Raises:
        InputError: a run was not evaluated, or the evaluations are of different images.
    """
    if not isinstance(models, Mapping) or not models:
        raise InputError(
            "compare takes a mapping from names to evaluations or runs; give at least one."
        )
    groups = {
        str(name): [_measurement(one) for one in _as_sequence(subject)]
        for name, subject in models.items()
    }
    for name, group in groups.items():
        if not group:
            raise InputError(f"There is no evaluation of {name}; give at least one.")
    return Comparison(_rows(groups))


def compare_runs(groups: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """One row for each name, over its runs (seeds).

    Values are averaged over seeds for each image, so `stderr` is the error over images.
    `difference_to_best` is paired by image, so its error is far smaller than that of either model.
    With several seeds, `seed_spread` is the standard deviation of their mean ELBOs.

    Raises:
        InputError: a run was not evaluated, or the runs were evaluated on different images.
    """
    return _rows({name: list(map(_of_run, runs)) for name, runs in groups.items()})


class _Measurement(NamedTuple):
    """The evaluation of one model, in memory or in a run folder."""

    results: Mapping[str, Any]
    """As in results.json."""
    values: Mapping[str, Tensor]
    """Of single images."""
    kind: str
    started_from: str | None = None
    run: str | None = None


def _as_sequence(subject: Subject | Sequence[Subject]) -> Sequence[Subject]:
    if isinstance(subject, Sequence) and not isinstance(subject, str):
        return subject
    return [subject]


def _measurement(subject: Subject) -> _Measurement:
    if isinstance(subject, str | Path):
        subject = Run.open(subject)
    if isinstance(subject, Run):
        return _of_run(subject)
    if not isinstance(subject, Evaluation):
        raise InputError(
            f"compare takes evaluations and runs, not {type(subject).__name__}; call "
            "limner.evaluate first."
        )
    results = subject.figures() | {
        "observation": subject.measured.observation,
        "num_images": subject.num_images,
        "images": subject.images,
        "parameters": subject.measured.parameters,
        "training_seconds": None,
        "images_per_second": None,
        "epochs": None,
    }
    return _Measurement(results, subject.per_image, subject.measured.kind)


def _of_run(run: Run) -> _Measurement:
    config = run.config
    return _Measurement(
        _results(run), run.per_image(), config.model.kind, config.start_from, run.path.name
    )


def _rows(groups: Mapping[str, Sequence[_Measurement]]) -> list[dict[str, Any]]:
    _refuse_unlike([one.results for group in groups.values() for one in group])
    elbos = {name: _over_seeds(group, "elbo") for name, group in groups.items()}
    best = max(elbos, key=lambda name: elbos[name].mean().item())
    rows = []
    for name, group in groups.items():
        row = _row(name, group)
        difference = None if name == best else Estimate(elbos[name] - elbos[best]).summary()
        row["difference_to_best"] = difference
        rows.append(row)
    return rows


def comparison_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """One column per model, in nats per image unless stated otherwise; lower is better."""
    table = Table(title=escape(title), title_justify="left")
    table.add_column("", no_wrap=True)
    headings, cells = _cells(rows)
    for heading in headings:
        table.add_column(escape(heading), justify="right")
    for line in cells:
        table.add_row(*line)
    return table


def _cells(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The names of the models, and lines: the name of a figure, then its text for each model."""
    samples = [row["iw_bound"]["num_samples"] for row in rows]
    mixed = len(set(samples)) > 1
    lines = [
        [heading.format("K" if mixed else samples[0]), *map(shown, rows)]
        for heading, shown in _FIGURES.items()
    ]
    if mixed:
        lines.append(["K", *map(str, samples)])
    return [row["name"] for row in rows], [line for line in lines if set(line[1:]) - _UNKNOWN]


_UNKNOWN = {"unknown", "-"}


def _known(value: float | None, form: str) -> str:
    return "unknown" if value is None else form.format(value)


_FIGURES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "-ELBO": lambda row: with_error(row["elbo"], 2, -1),
    "gap to best": lambda row: (
        with_error(row["difference_to_best"], 2, -1) if row["difference_to_best"] else "best"
    ),
    "-L_{}": lambda row: with_error(row["iw_bound"], 2, -1),
    "reconstruction": lambda row: with_error(row["reconstruction"], 2, -1),
    "KL": lambda row: with_error(row["kl"], 2),
    "bits per dimension": lambda row: f"{row['bits_per_dim']['elbo']['mean']:.4f}",
    "parameters": lambda row: f"{row['parameters']:,}",
    "training time": lambda row: _known(row["training_seconds"], "{:.0f} s"),
    "started from": lambda row: row.get("started_from") or "-",
    "images/s": lambda row: _known(row["images_per_second"], "{:,.0f}"),
}


def _results(run: Run) -> dict[str, Any]:
    results = run.results()
    if results is None:
        raise InputError(
            f"{run.path} was not evaluated; run limner evaluate {run.path} first, or in Python "
            "give what limner.evaluate returns."
        )
    return results


def _refuse_unlike(results: Sequence[Mapping[str, Any]]) -> None:
    settings = [result["data"] for result in results if "data" in result]
    images = {str(result["images"]) for result in results if result.get("images")}
    if len(images) > 1:
        raise InputError("These evaluations are of different images; evaluate all on the same.")
    known = [key for key in SAME if all(key in result for result in results)]
    for key in (*known, *SAME_DATA):
        values = {str(each.get(key)) for each in (results if key in SAME else settings)}
        if len(values) > 1:
            raise InputError(
                f"These runs cannot be compared: their {key} is {' and '.join(sorted(values))}; "
                "evaluate them on the same images."
            )


def _over_seeds(group: Sequence[_Measurement], figure: str) -> Tensor:
    return torch.stack([one.values[figure].double() for one in group]).mean(0)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None if it is unknown for a run."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _in_bits(error: float | None, bits: Mapping[str, Any], nats: Mapping[str, Any]) -> float | None:
    """An error in nats as bits per dimension, in proportion to a figure that has both."""
    if error is None or bits["stderr"] is None:
        return None
    return error * bits["stderr"] / (nats["stderr"] or 1.0)


def _row(name: str, group: Sequence[_Measurement]) -> dict[str, Any]:
    results = [one.results for one in group]
    first, count = results[0], len(results)
    row: dict[str, Any] = {"name": name, "kind": group[0].kind, "seeds": count}
    for key, figure in {
        "elbo": "elbo",
        "reconstruction": "log_likelihood",
        "iw_bound": "iw_bound",
    }.items():
        row[key] = Estimate(_over_seeds(group, figure)).summary()
    row["kl"] = Estimate(_over_seeds(group, "kl").sum(1)).summary()
    row["iw_bound"]["num_samples"] = first["iw_bound"]["num_samples"]
    row["bits_per_dim"] = {
        bound: {
            "mean": sum(result["bits_per_dim"][bound]["mean"] for result in results) / count,
            "stderr": _in_bits(row[bound]["stderr"], first["bits_per_dim"][bound], first[bound]),
        }
        for bound in ("elbo", "iw_bound")
    }
    if count > 1:
        means = torch.tensor([result["elbo"]["mean"] for result in results])
        row["seed_spread"] = means.std().item()
    return row | {
        "parameters": first["parameters"],
        "training_seconds": _mean([result["training_seconds"] for result in results]),
        "images_per_second": _mean([result["images_per_second"] for result in results]),
        "epochs": first["epochs"],
        "started_from": group[0].started_from,
        "runs": [one.run for one in group],
    }
