"""`limner report`: one HTML page on one run or several."""

from pathlib import Path
from typing import Annotated

import tyro

from limner.commands.pictures import tell
from limner.report import write
from limner.training.runs import Run


def report(
    runs: Annotated[tuple[str, ...], tyro.conf.Positional], /, *, out: Path | None = None
) -> None:
    """Write one self-contained HTML page: comparison, figures, animations, configs.

    Args:
        runs: folders of the runs
        out: the file; report.html in the folder of one run, or beside the first of several
    """
    found = [Run.open(run) for run in runs]
    if out is None and found:
        first = found[0].path
        out = (first if len(found) == 1 else first.parent) / "report.html"
    tell([write(found, out or Path("report.html"))])
