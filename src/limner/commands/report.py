"""`limner report`: one HTML page on one run or several."""

from pathlib import Path
from typing import Annotated

import tyro

from limner.commands.images import DataName, DataRoot, run_on
from limner.commands.pictures import tell
from limner.report import write


def report(
    runs: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    *,
    out: Path | None = None,
    data_name: DataName = None,
    data_root: DataRoot = None,
) -> None:
    """Write one self-contained HTML page: comparison, figures, animations, configs.

    Args:
        runs: folders of the runs, or names of trained models
        out: the file; report.html in the folder of one run, or beside the first of several
    """
    found = [run_on(run, data_name, data_root) for run in runs]
    if out is None and found:
        first = found[0].out
        out = (first if len(found) == 1 else first.parent) / "report.html"
    tell([write(found, out or Path("report.html"))])
