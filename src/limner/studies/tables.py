"""The figures of a study: one row per run, and means over seeds."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

from limner.models import build
from limner.report.table import harmless
from limner.studies.file import COLUMNS, ERRORS, FIGURES
from limner.studies.studying import Outcome
from limner.training.resuming import position_of
from limner.training.runs import Run


class Mean(NamedTuple):
    """Over seeds."""

    mean: float
    stderr: float | None
    """None for one seed."""
    over_images: float | None = None
    """Standard error over the test images, of one seed."""

    @property
    def error(self) -> float | None:
        """Over seeds, or over images if there is one seed."""
        return self.over_images if self.stderr is None else self.stderr


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row per run that has results: its labels, seed, folder and `FIGURES`."""
    return [
        {**outcome.planned.labels, "seed": outcome.planned.config.seed}
        | figures_of(outcome.run)
        | {"run": outcome.folder.name}
        for outcome in outcomes
        if outcome.problem is None
    ]


def figures_of(run: Run) -> dict[str, float]:
    """The `FIGURES` of a run that was evaluated, and the `ERRORS` of its bounds."""
    results = run.results() or {}
    model, position = build(run.config.model, run.image_shape), position_of(run.path)
    elbo, iw_bound, bits = results["elbo"], results["iw_bound"], results["bits_per_dim"]["elbo"]
    return {
        "-ELBO": -elbo["mean"],
        "-L_K": -iw_bound["mean"],
        "bits per dimension": bits["mean"],
        "groups": model.num_groups,
        "steps": 0 if position is None else position.step,
        "parameters": results["parameters"],
        "training seconds": results["training_seconds"],
        "images per second": results["images_per_second"],
        "memory": model.stored_bytes(run.config.batch_size),
        ERRORS["-ELBO"]: elbo["stderr"],
        ERRORS["-L_K"]: iw_bound["stderr"],
        ERRORS["bits per dimension"]: bits["stderr"],
    }


def averaged(found: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> list[dict[str, Any]]:
    """One row per combination of labels: each figure's mean over seeds, with its error."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in found:
        groups.setdefault(tuple(str(row.get(axis, "")) for axis in axes), []).append(row)
    return [
        dict(zip(axes, labels, strict=True))
        | {"seeds": len(group)}
        | {figure: _over(figure, group) for figure in FIGURES}
        for labels, group in groups.items()
    ]


def to_csv(found: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with every column that a row has."""
    found = [{_title(name): _harmless(value) for name, value in row.items()} for row in found]
    columns = list(dict.fromkeys(name for row in found for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def _title(name: str) -> str:
    return name if name in COLUMNS else harmless(name)


def _harmless(value: Any) -> Any:
    return harmless(value) if isinstance(value, str) else value


def _over(figure: str, group: Sequence[Mapping[str, Any]]) -> Mean:
    values = [row[figure] for row in group]
    if len(values) == 1:
        return Mean(values[0], None, group[0].get(ERRORS.get(figure, "")))
    return Mean(mean(values), stdev(values) / math.sqrt(len(values)))
