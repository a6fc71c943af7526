"""The page of a study: what was asked, the figure, and the means over seeds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import limner
from limner.report.page import asset, environment
from limner.report.shown import ShownPicture
from limner.report.table import Cell
from limner.storage import write_atomically
from limner.studies.file import ERRORS, Study


def cells(
    means: Sequence[Mapping[str, Any]], axes: Sequence[str], study: Study
) -> tuple[list[str], list[list[Cell]]]:
    """Headings and lines of the table of means; bits per dimension only if they are plotted."""
    figures = {
        "-ELBO": ("-ELBO", "{:.2f}", 1),
        f"-L_{study.samples}": ("-L_K", "{:.2f}", 1),
        "bits": ("bits per dimension", "{:.3f}", 1),
        "groups": ("groups", "{:,.0f}", 1),
        "weights": ("parameters", "{:.2f} M", 1e-6),
        "seconds": ("training seconds", "{:,.0f}", 1),
        "images/s": ("images per second", "{:,.0f}", 1),
        "MiB": ("memory", "{:,.1f}", 2**-20),
    }
    if all(plot.y != "bits per dimension" for plot in study.plots):
        del figures["bits"]
    lines = []
    for row in means:
        line = [Cell(str(row.get(axis, "")), None) for axis in axes]
        for name, form, scale in figures.values():
            value = row[name]
            text = form.format(scale * value.mean)
            bounded = name in ERRORS and value.error is not None
            shown = f"{text} ± {form.format(value.error)}" if bounded else text
            line.append(Cell(shown, value.mean))
        lines.append(line)
    return [*axes, *figures], lines


def _certainty(means: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> str:
    """How sure the place of the best is, by the errors over seeds."""
    first, others = best["-ELBO"], [row["-ELBO"] for row in means if row is not best]
    if not others:
        return ""
    if first.stderr is None or any(one.stderr is None for one in others):
        return "; with one seed, the error of the order is unknown"
    close = sum(one.mean - first.mean < 2 * math.hypot(one.stderr, first.stderr) for one in others)
    if not close:
        return ", and all others are more than two standard errors above"
    verb = "other is" if close == 1 else "others are"
    return f"; {close} {verb} within two standard errors, so the order is uncertain"


def write_page(
    study: Study,
    means: Sequence[Mapping[str, Any]],
    axes: Sequence[str],
    problems: Mapping[str, str],
    figure: str,
    out: Path,
    pictures: Sequence[ShownPicture] = (),
) -> Path:
    """Write the page to the file `out`; `figure` is SVG."""
    headings, lines = cells(means, axes, study)
    best = min(means, key=lambda row: row["-ELBO"].mean)
    bound = best["-ELBO"]
    error = "" if bound.stderr is None else f" ± {bound.stderr:.2f}"
    name = ", ".join(f"{axis} {best[axis]}" for axis in axes if best.get(axis))
    which = f", with {name}" if name else ""
    certainty = _certainty(means, best)
    lowest = f"Lowest −ELBO{which}: {bound.mean:.2f}{error} nats per image{certainty}."
    text = (
        environment()
        .get_template("study.html")
        .render(
            study=study,
            styles=[asset(f"{name}.css") for name in ("page", "table", "print")],
            script=asset("table.js"),
            version=limner.__version__,
            summary=f"{sum(row['seeds'] for row in means)} runs. {lowest}",
            figure="data:image/svg+xml," + quote(figure),
            error="over seeds" if any(row["seeds"] > 1 for row in means) else "over images",
            pictures=pictures,
            alt=f"{study.title}: "
            + "; ".join(f"{plot.y} against {plot.x}" for plot in study.plots),
            headings=headings,
            lines=lines,
            problems=problems,
        )
    )
    write_atomically(out, text)
    return out
