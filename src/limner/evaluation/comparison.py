"""Runs side by side: one row a model, with the paired difference to the best."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from limner.errors import InputError
from limner.evaluation.results import summary
from limner.training.runs import Run

SAME = ("dataset", "split", "binarization", "observation", "num_images")
"""What results must share for their differences to mean anything."""


def compare_runs(groups: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """One row for each name, over its runs (seeds).

    Figures are averaged over seeds image by image, so that `stderr` is the error over images and
    `difference_to_best`, paired by image, has the far smaller error of a difference between two
    models on the same images. With several seeds `seed_spread` is the standard deviation of their
    mean ELBOs.

    Raises:
        InputError: a run was not evaluated, or on other images than the rest.
    """
    results = {name: [_results(run) for run in runs] for name, runs in groups.items()}
    _refuse_unlike([result for group in results.values() for result in group])
    elbos = {name: _over_seeds(runs, "elbo") for name, runs in groups.items()}
    best = max(elbos, key=lambda name: elbos[name].mean().item())
    rows = []
    for name, runs in groups.items():
        row = _row(name, runs, results[name])
        row["difference_to_best"] = None if name == best else summary(elbos[name] - elbos[best])
        rows.append(row)
    return rows


def comparison_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """The rows as a table for the terminal, in nats an image; lower -ELBO is better."""
    samples = rows[0]["iw_bound"]["num_samples"]
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    headings = ("-ELBO", "reconstruction", "KL", f"-L_{samples}", "bits/dim", "parameters")
    for heading in (*headings, "training", "images/s", "from the best"):
        table.add_column(heading, justify="right")
    for row in rows:
        difference = row["difference_to_best"]
        table.add_row(
            row["name"],
            f"{-row['elbo']['mean']:.2f} ± {row['elbo']['stderr']:.2f}",
            f"{-row['reconstruction']['mean']:.2f}",
            f"{row['kl']['mean']:.2f}",
            f"{-row['iw_bound']['mean']:.2f}",
            f"{row['bits_per_dim']['elbo']['mean']:.4f}",
            f"{row['parameters']:,}",
            f"{row['training_seconds']:.0f} s",
            f"{row['images_per_second']:,.0f}",
            "best"
            if difference is None
            else f"{-difference['mean']:+.2f} ± {difference['stderr']:.2f}",
        )
    return table


def _results(run: Run) -> dict[str, Any]:
    results = run.results()
    if results is None:
        raise InputError(f"{run.path} was not evaluated; run limner evaluate {run.path} first.")
    return results


def _refuse_unlike(results: Sequence[Mapping[str, Any]]) -> None:
    for key in SAME:
        values = {str(result[key]) for result in results}
        if len(values) > 1:
            raise InputError(
                f"These runs cannot be compared: their {key} is {' and '.join(sorted(values))}; "
                "evaluate them on the same images."
            )


def _over_seeds(runs: Sequence[Run], figure: str) -> Tensor:
    return torch.stack([run.per_image()[figure].double() for run in runs]).mean(0)


def _row(name: str, runs: Sequence[Run], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, count = results[0], len(results)
    row: dict[str, Any] = {"name": name, "kind": runs[0].config.model.kind, "seeds": count}
    for key, figure in {
        "elbo": "elbo",
        "reconstruction": "log_likelihood",
        "iw_bound": "iw_bound",
    }.items():
        row[key] = summary(_over_seeds(runs, figure))
    row["kl"] = summary(
        torch.stack([run.per_image()["kl"].double() for run in runs]).mean(0).sum(1)
    )
    row["iw_bound"]["num_samples"] = first["iw_bound"]["num_samples"]
    row["bits_per_dim"] = {
        bound: {
            "mean": sum(result["bits_per_dim"][bound]["mean"] for result in results) / count,
            "stderr": row[bound]["stderr"]
            * first["bits_per_dim"][bound]["stderr"]
            / first[bound]["stderr"],
        }
        for bound in ("elbo", "iw_bound")
    }
    if count > 1:
        means = torch.tensor([result["elbo"]["mean"] for result in results])
        row["seed_spread"] = means.std().item()
    return row | {
        "parameters": first["parameters"],
        "training_seconds": sum(result["training_seconds"] for result in results) / count,
        "images_per_second": sum(result["images_per_second"] for result in results) / count,
        "epochs": first["epochs"],
        "runs": [run.path.name for run in runs],
    }
