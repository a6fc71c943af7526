"""The report: one self-contained HTML file."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import limner
from limner.data import Dataset
from limner.device import Device, pick_device
from limner.errors import InputError
from limner.figures.style import output_folder
from limner.figures.subject import Subject
from limner.progress import progress_bar, warn
from limner.report import sections
from limner.storage import write_atomically
from limner.training.runs import Run
from limner.training.seen import remembered


def write(
    runs: Sequence[Run],
    out: Path,
    comparison: Mapping[str, Any] | None = None,
    device: Device = "auto",
) -> Path:
    """Write a report about `runs` to the file `out`.

    Args:
        runs: trained runs; those that were evaluated have a row in the table.
        comparison: `{"rows", "description", "command"}` from `limner compare`, with paired
            differences to the best; without it, rows come from each run's results.
        device: where to compute.

    Raises:
        InputError: no run is given, one is not trained, or `out` cannot be written.
    """
    if not runs:
        raise InputError("A report needs at least one run; give the folder of one.")
    subjects = _subjects(runs, pick_device(device))
    output_folder(out.parent)
    write_atomically(out, render(runs, subjects, comparison or {}))
    return out


def render(runs: Sequence[Run], subjects: Sequence[Subject], comparison: Mapping[str, Any]) -> str:
    """The page as text."""
    datasets = [subject.dataset for subject in subjects]
    labels = sections.labels_of(runs, comparison.get("rows", ()))
    rows = comparison.get("rows") or sections.rows_of(runs, labels)
    environment = Environment(
        loader=PackageLoader("limner.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        style=_part("page.css"),
        script=_part("page.js"),
        version=limner.__version__,
        description=comparison.get("description", ""),
        command=comparison.get("command", ""),
        rows=sections.table(rows),
        samples=sections.samples_in(rows),
        compared=sections.compared(labels, subjects) if len(runs) > 1 else [],
        literature=sections.ours_and_published(runs, labels, datasets),
        sections=list(_sections(runs, labels, subjects)),
    )


def _sections(
    runs: Sequence[Run], labels: Sequence[str], subjects: Sequence[Subject]
) -> Iterator[sections.Section]:
    """One section a run; most of the time goes into their figures."""
    with progress_bar("writing the report", len(runs), "runs") as report:
        for index, about in enumerate(zip(runs, labels, subjects, strict=True), 1):
            yield sections.section(index, *about)
            report(index, "")


def _subjects(runs: Sequence[Run], device: torch.device) -> list[Subject]:
    """Model, images and metrics of each run; shared images are loaded once."""
    loaded: dict[str, Dataset] = {}
    subjects = []
    for run in runs:
        key = run.data.model_dump_json()
        if key not in loaded:
            loaded[key] = run.dataset()
        if sentence := remembered(run, loaded[key].test):
            warn(sentence)
        images, shown = loaded[key], sections.MAX_IMAGES
        model = run.model().to(device)
        subjects.append(Subject(model, images, run.metrics(), max_images=shown, projection="tsne"))
    return subjects


def _part(name: str) -> Markup:
    """A file of this package, inserted into the page unchanged."""
    return Markup(files("limner.report").joinpath(name).read_text(encoding="utf-8"))
