"""Runs side by side: one row per model, with the paired difference to the best."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from limner.errors import InputError
from limner.evaluation.estimate import Estimate, with_error
from limner.training.runs import Run

SAME = ("dataset", "split", "binarization", "draw_seed", "observation", "num_images")
"""What results must have in common to be compared."""
SAME_DATA = ("size", "fit", "colour", "range", "shape", "group_by", "skip_damaged")
"""The settings of the images that they must have in common."""


def compare_runs(groups: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """One row for each name, over its runs (seeds).

    Values are averaged over seeds for each image, so `stderr` is the error over images.
    `difference_to_best` is paired by image, so its error is far smaller than that of either model.
    With several seeds, `seed_spread` is the standard deviation of their mean ELBOs.

    Raises:
        InputError: a run was not evaluated, or the runs were evaluated on different images.
    """
    results = {name: [_results(run) for run in runs] for name, runs in groups.items()}
    _refuse_unlike([result for group in results.values() for result in group])
    elbos = {name: Estimate(_over_seeds(runs, "elbo")) for name, runs in groups.items()}
    best = max(elbos, key=lambda name: elbos[name].mean)
    rows = []
    for name, runs in groups.items():
        row = _row(name, runs, results[name])
        row["difference_to_best"] = None if name == best else (elbos[name] - elbos[best]).summary()
        rows.append(row)
    return rows


def comparison_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """One column per model, in nats per image unless stated otherwise; lower is better."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for row in rows:
        table.add_column(row["name"], justify="right")
    samples = [row["iw_bound"]["num_samples"] for row in rows]
    mixed = len(set(samples)) > 1
    started = any(row.get("started_from") for row in rows)
    for heading, shown in _FIGURES.items():
        if heading == "started from" and not started:
            continue
        table.add_row(heading.format("K" if mixed else samples[0]), *map(shown, rows))
    if mixed:
        table.add_row("K", *map(str, samples))
    return table


def _known(value: float | None, form: str) -> str:
    return "unknown" if value is None else form.format(value)


_FIGURES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "-ELBO": lambda row: with_error(row["elbo"], 2, -1),
    "difference to the best": lambda row: (
        with_error(row["difference_to_best"], 2, -1) if row["difference_to_best"] else "best"
    ),
    "-L_{}": lambda row: with_error(row["iw_bound"], 2, -1),
    "reconstruction": lambda row: with_error(row["reconstruction"], 2, -1),
    "KL": lambda row: with_error(row["kl"], 2),
    "bits per dim": lambda row: f"{row['bits_per_dim']['elbo']['mean']:.4f}",
    "parameters": lambda row: f"{row['parameters']:,}",
    "training": lambda row: _known(row["training_seconds"], "{:.0f} s"),
    "started from": lambda row: row.get("started_from") or "-",
    "images per second": lambda row: _known(row["images_per_second"], "{:,.0f}"),
}


def _results(run: Run) -> dict[str, Any]:
    results = run.results()
    if results is None:
        raise InputError(f"{run.path} was not evaluated; run limner evaluate {run.path} first.")
    return results


def _refuse_unlike(results: Sequence[Mapping[str, Any]]) -> None:
    settings = [result["data"] for result in results if "data" in result]
    for key in (*SAME, *SAME_DATA):
        values = {str(each.get(key)) for each in (results if key in SAME else settings)}
        if len(values) > 1:
            raise InputError(
                f"These runs cannot be compared: their {key} is {' and '.join(sorted(values))}; "
                "evaluate them on the same images."
            )


def _over_seeds(runs: Sequence[Run], figure: str) -> Tensor:
    return torch.stack([run.per_image()[figure].double() for run in runs]).mean(0)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None if it is unknown for a run."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _in_bits(error: float | None, bits: Mapping[str, Any], nats: Mapping[str, Any]) -> float | None:
    """An error in nats as bits per dimension, in proportion to a figure that has both."""
    if error is None or bits["stderr"] is None:
        return None
    return error * bits["stderr"] / (nats["stderr"] or 1.0)


def _row(name: str, runs: Sequence[Run], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, count = results[0], len(results)
    row: dict[str, Any] = {"name": name, "kind": runs[0].config.model.kind, "seeds": count}
    for key, figure in {
        "elbo": "elbo",
        "reconstruction": "log_likelihood",
        "iw_bound": "iw_bound",
    }.items():
        row[key] = Estimate(_over_seeds(runs, figure)).summary()
    kl = torch.stack([run.per_image()["kl"].double() for run in runs]).mean(0).sum(1)
    row["kl"] = Estimate(kl).summary()
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
        "started_from": runs[0].config.start_from,
        "runs": [run.path.name for run in runs],
    }
