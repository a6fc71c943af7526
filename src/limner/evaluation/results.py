"""From values per image to `results.json`, and the table that shows it."""

import platform
from collections.abc import Mapping
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

import limner
from limner.evaluation.likelihood import Evaluation
from limner.layers.observation import bits_per_dim


def summary(values: Tensor) -> dict[str, Any]:
    """Mean and standard error over images of `values` [images]; the error is s / sqrt(n).

    The error of one image is unknown, None.
    """
    values = values.double()
    error = (values.std() / len(values) ** 0.5).item() if len(values) > 1 else None
    return {"mean": values.mean().item(), "stderr": error}


def results_of(evaluation: Evaluation, about: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `results.json`: the numbers, then `about` and what else describes them.

    Signs are as in the code: for `elbo`, `iw_bound` and `reconstruction` (mean log p(x | z)) higher
    is better, and `kl` is positive. For bits per dimension lower is better.
    """
    values, model = evaluation.per_image, evaluation.model
    results: dict[str, Any] = {
        "elbo": summary(values["elbo"]),
        "reconstruction": summary(values["log_likelihood"]),
        "kl": summary(values["kl"].sum(1)),
        "iw_bound": summary(values["iw_bound"]) | {"num_samples": evaluation.num_samples},
        "bits_per_dim": {
            name: summary(_bits_per_dim(values[name], evaluation)) for name in ("elbo", "iw_bound")
        },
        "kl_per_group": values["kl"].double().mean(0).tolist(),
        "active_units": evaluation.active_units,
        "latent_units": evaluation.latent_units,
        "group_names": model.group_names,
    }
    if "elbo_per_step" in values:
        results["elbo_per_step"] = [summary(step) for step in values["elbo_per_step"].unbind(1)]
    return results | {
        **about,
        "observation": model.config.observation,
        "image_shape": list(model.image_shape),
        "num_images": len(values["elbo"]),
        "seed": evaluation.seed,
        "parameters": model.num_parameters,
        "evaluation_seconds": round(evaluation.seconds, 3),
        "device": next(model.parameters()).device.type,
        "versions": {
            "limner": limner.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _bits_per_dim(nats: Tensor, evaluation: Evaluation) -> Tensor:
    model = evaluation.model
    channels, height, width = model.image_shape
    bits = bits_per_dim(nats.double(), model.config.observation, channels * height * width)
    return torch.as_tensor(bits)


def results_table(results: Mapping[str, Any], title: str) -> Table:
    """Bounds with standard errors, in nats and in bits per dimension."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("nats per image", justify="right")
    table.add_column("bits per dim", justify="right")
    rows = {
        "ELBO": "elbo",
        f"importance-weighted bound, K = {results['iw_bound']['num_samples']}": "iw_bound",
        "reconstruction, log p(x | z)": "reconstruction",
        "KL": "kl",
    }
    for label, key in rows.items():
        bits = results["bits_per_dim"].get(key)
        table.add_row(label, with_error(results[key], 2), with_error(bits, 4) if bits else "")
    return table


def groups_table(results: Mapping[str, Any]) -> Table:
    """KL, active units and, if measured, the ELBO after each group."""
    per_step = results.get("elbo_per_step")
    table = Table("group", title="latent groups", title_justify="left")
    for heading in ("KL", "active units", *(["ELBO so far"] if per_step else [])):
        table.add_column(heading, justify="right")
    for group, name in enumerate(results["group_names"]):
        active = results["active_units"][group]
        units = f"{'-' if active is None else active} of {results['latent_units'][group]}"
        so_far = [with_error(per_step[group], 2)] if per_step else []
        table.add_row(name, f"{results['kl_per_group'][group]:.2f}", units, *so_far)
    return table


def with_error(figure: Mapping[str, Any], digits: int, sign: int = 1) -> str:
    """`97.13 ± 0.42`, or `97.13 ± -` if the error is unknown; `sign` -1 negates."""
    error = figure["stderr"]
    shown = "-" if error is None else f"{error:.{digits}f}"
    return f"{sign * figure['mean']:.{digits}f} ± {shown}"
