"""The report: one self-contained HTML file."""

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import limner
from limner.data import Dataset
from limner.device import Device, pick_device
from limner.errors import InputError
from limner.figures import gallery
from limner.figures.style import output_folder
from limner.figures.subject import Subject
from limner.models import RecurrentModel
from limner.progress import progress_bar, warn
from limner.report import compared, sections
from limner.report.depth import profile
from limner.report.published import ours_and_published
from limner.report.table import ordered, rows_of, table
from limner.report.verdict import verdict
from limner.report.wording import typeset
from limner.storage import write_atomically
from limner.training.runs import Run
from limner.training.seen import remembered

MAX_IMAGES = 1000
"""Test images used for the statistics of the page."""
STYLES = ("page", "contents", "film", "table", "print")
SCRIPTS = ("contents", "film", "table", "enlarge")


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
    output_folder(out.parent)
    write_atomically(out, render(runs, comparison or {}, pick_device(device)))
    return out


def render(runs: Sequence[Run], comparison: Mapping[str, Any], device: torch.device) -> str:
    """The page as text."""
    labels = sections.labels_of(runs, comparison.get("rows", ()))
    rows = ordered(comparison.get("rows") or rows_of(runs, labels))
    named = _in_order(dict(zip(labels, runs, strict=True)), [row["name"] for row in rows])
    total = len(runs) * gallery.COUNT  # films take the place of their strips
    with progress_bar("writing the report", total, "figures") as report:
        done = count(1)
        content = _content(named, device, lambda: report(next(done), ""))
    results = {label: run.results() for label, run in named.items()}
    known = {label: found for label, found in results.items() if found is not None}
    missing = [label for label in results if label not in known]
    content |= {
        "styles": [asset(f"{name}.css") for name in STYLES],
        "scripts": [asset(f"{name}.js") for name in SCRIPTS],
        "version": limner.__version__,
        "description": comparison.get("description", ""),
        "command": comparison.get("command", ""),
        "verdict": verdict(rows, list(known.values()), missing),
        "notes": [(label, found["note"]) for label, found in known.items() if "note" in found],
        "table": table(rows),
    }
    return environment().get_template("page.html").render(content)


def _in_order(runs: Mapping[str, Run], names: Sequence[str]) -> dict[str, Run]:
    """The runs in the order of the rows with their `names`, then the others."""
    first = [name for name in names if name in runs]
    return {label: runs[label] for label in dict.fromkeys([*first, *runs])}


def _content(
    runs: Mapping[str, Run], device: torch.device, tick: Callable[[], None]
) -> dict[str, Any]:
    """Sections and figures; most of the time goes into the latter."""
    labels, subjects, profiles = list(runs), subjects_of(list(runs.values()), device), []
    for run, subject in zip(runs.values(), subjects, strict=True):
        profiles.append(profile(subject, run.results() or {}))
        tick()
    several = len(runs) > 1
    pictures = compared.pictures(labels, subjects, profiles) if several else []
    parts = zip(runs.values(), labels, sections.anchors(labels), subjects, profiles, strict=True)
    draws = [isinstance(subject.model, RecurrentModel) for subject in subjects]
    datasets = [subject.dataset for subject in subjects]
    return {
        "compared": pictures,
        "sections": [sections.section(*part, tick) for part in parts],
        "lead": draws.index(True) if any(draws) else 0,
        "literature": ours_and_published(list(runs.values()), labels, datasets),
    }


def subjects_of(runs: Sequence[Run], device: torch.device) -> list[Subject]:
    """Model, images and metrics of each run; shared images are loaded once."""
    loaded: dict[str, Dataset] = {}
    subjects = []
    for run in runs:
        key = run.data.model_dump_json()
        if key not in loaded:
            loaded[key] = run.dataset()
        if sentence := remembered(run, loaded[key].test):
            warn(sentence)
        model, metrics = run.model().to(device), run.metrics()
        subjects.append(Subject(model, loaded[key], metrics, max_images=MAX_IMAGES))
    return subjects


def environment() -> Environment:
    """The templates of this package."""
    made = Environment(
        loader=PackageLoader("limner.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["typeset"] = typeset
    return made


def asset(name: str) -> Markup:
    """A style or script of this package, inserted into the page unchanged."""
    return Markup(files("limner.report").joinpath("assets", name).read_text(encoding="utf-8"))
