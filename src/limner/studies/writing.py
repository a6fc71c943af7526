"""The files of a finished study, and its table on the terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from limner.errors import InputError
from limner.figures import style
from limner.figures.studies import study_figure
from limner.progress import say, waiting
from limner.storage import write_atomically
from limner.studies.file import Study
from limner.studies.page import cells, write_page
from limner.studies.studying import Outcome
from limner.studies.tables import averaged, rows, to_csv


def write(described: Study, outcomes: Sequence[Outcome], out: Path) -> None:
    """Write results.json, results.csv, figure and report.html to `out`, and print the table.

    Raises:
        InputError: a run failed; what the others reached is written.
    """
    found = rows(outcomes)
    problems = {one.folder.name: one.problem for one in outcomes if one.problem is not None}
    if found:
        axes = list(dict.fromkeys(label for one in outcomes for label in one.planned.labels))
        _write(described, found, axes, problems, out)
    if problems:
        first = next(iter(problems))
        raise InputError(
            f"{len(problems)} of {len(outcomes)} runs failed, such as {first}: {problems[first]}"
        )


def _write(
    described: Study,
    found: Sequence[Mapping[str, Any]],
    axes: Sequence[str],
    problems: Mapping[str, str],
    out: Path,
) -> None:
    means = averaged(found, axes)
    document = {"study": described.model_dump(mode="json"), "runs": found, "failed": problems}
    write_atomically(out / "results.json", json.dumps(document, indent=2) + "\n")
    write_atomically(out / "results.csv", to_csv(found))
    plots = [(plot.x, plot.y) for plot in described.plots]
    with waiting("writing the figure and the page"):
        lines = described.line_axis
        made = study_figure(means, axes, plots, lines, described.samples, described.title)
        style.save(made, out, "figure")
        svg = style.themed_svg(made)
        page = write_page(described, means, axes, problems, svg, out / "report.html")
    headings, table_rows = cells(means, axes, described.samples)
    table = Table(title=escape(described.title), title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        table.add_column(escape(heading), justify="left" if heading in axes else "right")
    for line in table_rows:
        table.add_row(*(escape(cell.text) for cell in line))
    Console().print(table)
    say(f"written to {page}")
