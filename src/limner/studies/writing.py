"""The files of a finished study, and its table on the terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from limner.device import pick_device
from limner.errors import InputError
from limner.figures import style
from limner.figures.gallery import Picture
from limner.figures.studies import study_figure
from limner.progress import say, waiting, warn
from limner.report import compared
from limner.report.page import subjects_of
from limner.report.shown import shown
from limner.storage import write_atomically
from limner.studies.file import Study
from limner.studies.page import cells, write_page
from limner.studies.studying import Outcome
from limner.studies.tables import averaged, rows, to_csv

ONLY_ON_THE_PAGE = ("images/s", "MiB")
"""The last columns of the table, for which 80 letters have no room."""
MOST_PICTURED = 12
"""Models that are shown with their images."""


def write(described: Study, outcomes: Sequence[Outcome], out: Path) -> None:
    """Write results.json, results.csv, figure and report.html to `out`, and print the table.

    Raises:
        InputError: a run failed; what the others reached is written.
    """
    found = rows(outcomes)
    problems = {one.folder.name: one.problem for one in outcomes if one.problem is not None}
    if found:
        axes = list(dict.fromkeys(label for one in outcomes for label in one.planned.labels))
        _write(described, found, axes, problems, _pictures(outcomes), out)
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
    pictures: Sequence[Picture],
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
        for picture in pictures:
            style.save(picture.figure, out, picture.name.removeprefix("compared-"), ["png"])
        images = [shown(picture) for picture in pictures]
        page = write_page(described, means, axes, problems, svg, out / "report.html", images)
    headings, lines = cells(means, axes, described)
    table = Table(title=escape(described.title), title_justify="left", box=None, pad_edge=False)
    shown_here = [heading for heading in headings if heading not in ONLY_ON_THE_PAGE]
    for heading in shown_here:
        named = heading in axes
        table.add_column(escape(heading), justify="left" if named else "right", no_wrap=not named)
    for line in lines:
        table.add_row(*(escape(cell.text) for cell in line[: len(shown_here)]))
    Console().print(table)
    say(f"written to {page}")


def _pictures(outcomes: Sequence[Outcome]) -> list[Picture]:
    """Samples and reconstructions of each model's first seed, if the models are few."""
    firsts: dict[str, Outcome] = {}
    for one in outcomes:
        if one.problem is None:
            firsts.setdefault(" ".join(one.planned.labels.values()), one)
    if len(firsts) > MOST_PICTURED:
        return []
    runs = [one.run for one in firsts.values()]
    try:
        with waiting("drawing samples and reconstructions"):
            subjects = subjects_of(runs, pick_device(runs[0].config.device))
            named = dict(zip(firsts, subjects, strict=True))
            found = [compared.samples(named), compared.reconstructions(named)]
    except InputError as error:  # the images are not here, or not the same any more
        warn(f"The page shows no images: {error}")
        return []
    return [picture for picture in found if picture is not None]
