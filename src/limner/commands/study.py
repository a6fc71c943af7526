"""`limner study`: many runs from one file, and what came of them."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from limner.device import pick_device
from limner.errors import InputError
from limner.figures import style
from limner.figures.studies import study_figure
from limner.models import build
from limner.models.memory import free_memory
from limner.progress import say
from limner.report.study import cells, write_page
from limner.storage import write_atomically
from limner.studies import (
    Outcome,
    Planned,
    Study,
    averaged,
    built_in,
    carry_out,
    open_study,
    planned,
    rows,
)
from limner.studies.display import displayed
from limner.studies.engines import Engine, Processes, Ray, Share
from limner.studies.tables import to_csv

OVERHEAD = 2**30
"""Bytes of a process besides its training: Python, torch, the images."""


class NotAllTrained(InputError):
    """Some runs of a study failed; the others are in its table."""


def study(
    file: Annotated[str | None, tyro.conf.Positional] = None,
    /,
    *,
    listing: Annotated[bool, tyro.conf.arg(name="list")] = False,
    out: Path | None = None,
    jobs: int | None = None,
    engine: Literal["processes", "ray"] = "processes",
    address: str | None = None,
    data_root: Path | None = None,
    dry_run: bool = False,
) -> None:
    """Train the runs of a study, several at once, and write its table, figure and report.

    To continue a study that was stopped, repeat the command: finished runs stay, unfinished ones
    resume. limner study --list shows the built-in studies.

    Args:
        file: a study file (TOML), or the name of a built-in study
        listing: list the built-in studies
        out: folder of the study; runs/NAME if not given
        jobs: runs at once; by default from the cores, the memory and the GPUs
        engine: processes of this machine, or a Ray cluster (extra [ray])
        address: of a running Ray cluster; by default a cluster of this machine is started
        data_root: folder of the images, on every machine
        dry_run: list the runs and train none
    """
    if listing:
        _print_built_in()
        return
    if file is None:
        raise InputError(f"Say which study: FILE.toml or {', '.join(built_in())}.")
    described = open_study(file)
    plan = planned(described, {} if data_root is None else {"root": str(data_root)})
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs must be above zero; got {jobs}.")
    if dry_run:
        _print_plan(described, plan)
        return
    out = out or Path("runs") / Path(file).stem
    with displayed(described.title) as show:
        outcomes = carry_out(plan, out, _engine(engine, address, plan, jobs), show)
    _write(described, outcomes, out)


def _engine(name: str, address: str | None, plan: Sequence[Planned], jobs: int | None) -> Engine:
    shares = _shares(plan, jobs)
    if name == "processes":
        return Processes(shares)
    return Ray(address, shares[0], gpus=float(shares[0].gpu is not None))


def _shares(plan: Sequence[Planned], jobs: int | None) -> list[Share]:
    """What each of the runs under way at the same time may use."""
    cores, device = len(os.sched_getaffinity(0)), pick_device(plan[0].config.device)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        jobs = min(jobs or count, len(plan))
        return [Share(max(1, cores // jobs), str(k % count)) for k in range(jobs)]
    if jobs is None:
        jobs = max(1, min(cores, free_memory(device) // (OVERHEAD + _largest(plan))))
    jobs = min(jobs, len(plan))
    return [Share(max(1, cores // jobs))] * jobs


def _largest(plan: Sequence[Planned]) -> int:
    """Bytes that the largest training keeps for the backward pass, if images are 28 x 28."""
    models = {run.config.model.model_dump_json(): run.config for run in plan}
    sizes = [build(c.model, (1, 28, 28)).stored_bytes(c.batch_size) for c in models.values()]
    return max(sizes)


def _print_built_in() -> None:
    table = Table("name", "runs", "title", title="Built-in studies", title_justify="left")
    for name in built_in():
        described = open_study(name)
        table.add_row(name, str(len(planned(described))), described.title)
    Console().print(table)


def _print_plan(described: Study, plan: Sequence[Planned]) -> None:
    table = Table(title=f"{described.title}: {len(plan)} runs", title_justify="left")
    for heading in ("run", "model", "budget"):
        table.add_column(heading)
    for run in plan:
        config = run.config
        budget = f"{config.epochs} epochs" if config.epochs else f"{config.minutes:g} minutes"
        table.add_row(run.name, config.model.kind, budget)
    Console().print(table)


def _write(described: Study, outcomes: Sequence[Outcome], out: Path) -> None:
    found = rows(outcomes)
    problems = {one.folder.name: one.problem for one in outcomes if one.problem is not None}
    if not found:
        raise NotAllTrained(
            f"No run of this study was trained; the first problem: "
            f"{next(iter(problems.values()), 'unknown')}"
        )
    axes = list(dict.fromkeys(label for one in outcomes for label in one.planned.labels))
    means = averaged(found, axes)
    document = {"study": described.model_dump(mode="json"), "runs": found, "failed": problems}
    write_atomically(out / "results.json", json.dumps(document, indent=2) + "\n")
    write_atomically(out / "results.csv", to_csv(found))
    plots = [(plot.x, plot.y) for plot in described.plots]
    made = study_figure(means, axes, plots, described.line_axis, described.samples, described.title)
    style.save(made, out, "figure")
    page = write_page(described, means, axes, problems, made, out / "report.html")
    _print_means(means, axes, described)
    say(f"written to {page}")
    if problems:
        count = len(problems)
        raise NotAllTrained(
            f"{count} of {len(outcomes)} runs failed, such as {next(iter(problems))}: "
            f"{next(iter(problems.values()))}"
        )


def _print_means(means: Sequence[Mapping[str, Any]], axes: Sequence[str], described: Study) -> None:
    headings, lines = cells(means, axes, described.samples)
    table = Table(title=described.title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in axes else "right")
    for line in lines:
        table.add_row(*(cell.text for cell in line))
    Console().print(table)
