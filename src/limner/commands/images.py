"""Flags of commands that show a model other images than those of its training."""

from pathlib import Path
from typing import Annotated

import tyro

from limner.data import DataConfig
from limner.training.runs import Run

DataName = Annotated[
    str | None,
    tyro.conf.arg(name="data.name", help="other images than the run's own, binarized alike"),
]
DataRoot = Annotated[
    Path | None, tyro.conf.arg(name="data.root", help="the folder that holds the images")
]


def other_data(run: Run, name: str | None, root: Path | None) -> DataConfig | None:
    """The run's data config with another name or root; None where neither is given."""
    given = {key: value for key, value in (("name", name), ("root", root)) if value is not None}
    return run.config.data.with_(**given) if given else None


def run_on(run: str, name: str | None, root: Path | None) -> Run:
    """The run, and the images that were asked for in place of its own."""
    found = Run.open(run)
    data = other_data(found, name, root)
    return found.on(data) if data else found
