"""Tables of an evaluation, from the numbers of `results.json`."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from limner.evaluation.estimate import with_error

FEW = 1000
"""With fewer images, active units are only indicative: units that few images use are not seen."""


def results_table(results: Mapping[str, Any], title: str) -> Table:
    """-ELBO, -L_K and their parts with standard errors; lower is better."""
    table = Table("", title=title, title_justify="left")
    for heading in ("nats per image", "bits per dimension"):
        table.add_column(heading, justify="right")
    for row in results_rows(results):
        table.add_row(*row)
    return table


def results_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Name, nats and bits of each figure, with standard errors."""
    labels = {
        "-ELBO": ("elbo", -1),
        f"-L_{results['iw_bound']['num_samples']}": ("iw_bound", -1),
        "reconstruction, -log p(x | z)": ("reconstruction", -1),
        "KL": ("kl", 1),
    }
    bits = results["bits_per_dim"]
    rows = [
        [label, with_error(results[key], 2, sign), with_error(bits[key], 4) if key in bits else ""]
        for label, (key, sign) in labels.items()
    ]
    if coded := results.get("coded"):
        which = f"the first {coded['num_images']:,}, whose -ELBO is {coded['minus_elbo']:.2f}"
        rows.append([f"file of {which}", f"{coded['nats']:.2f}", f"{coded['bits_per_dim']:.4f}"])
    return rows


def groups_table(results: Mapping[str, Any]) -> Table:
    """KL, active units and, if measured, -ELBO after each group."""
    headings, rows = groups_rows(results)
    table = Table(headings[0], title="latent groups", title_justify="left")
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def groups_rows(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings, and the row of each latent group."""
    per_step = results.get("elbo_per_step")
    images = results.get("num_images")
    few = f" ({images} images: indicative)" if images is not None and images < FEW else ""
    last = ["-ELBO up to here"] if per_step else []
    headings, rows = ["group", "KL", f"active units{few}", *last], []
    for group, name in enumerate(results["group_names"]):
        active = results["active_units"][group]
        units = f"{'-' if active is None else active} of {results['latent_units'][group]}"
        so_far = [with_error(per_step[group], 2, -1)] if per_step else []
        rows.append([name, f"{results['kl_per_group'][group]:.2f}", units, *so_far])
    return headings, rows
