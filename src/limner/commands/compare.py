"""`limner compare`: several models side by side, trained the same way, or finished runs."""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from limner.commands.evaluate import Options, evaluate_run
from limner.commands.options import RunNames
from limner.config import RunConfig
from limner.data import DataConfig
from limner.data.config import in_words
from limner.errors import InputError
from limner.progress import suggest, waiting, warn
from limner.recipes import STUDY

if TYPE_CHECKING:
    from limner.studies import Planned
    from limner.studies.engines import Task
    from limner.training import Run

PLAN = "study.json"
"""Marks the folder of a comparison, as that of any study."""

DEFAULT_DATA = DataConfig()


def compare(
    runs: RunNames = (),
    /,
    *,
    out: Path = Path("runs/comparison"),
    data: DataConfig = DEFAULT_DATA,
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    seeds: tuple[int, ...] = (0,),
    evaluate_samples: int = 20,
    compile: Literal["auto", "always", "never"] = "auto",
    device: str = "auto",
    jobs: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> None:
    """Train and compare VAE, Ladder VAE and DRAW without and with attention, or compare RUNS.

    All models are trained on the same images for the same number of epochs, or for the same time
    with --minutes. Writes results.json and report.html to --out.

    Args:
        runs: finished run folders, or names of trained models, to compare instead of training
        out: folder of the comparison
        data: images to train on
        epochs: passes over the images, for every model
        minutes: training time of every model, instead of epochs
        batch_size: images per step
        seeds: every model is trained once for each seed
        evaluate_samples: number K of samples of the importance-weighted bound
        compile: use torch.compile; auto compiles if the training is long enough to gain from it
        device: where to compute: auto, cpu, cuda, mps or another name of torch, such as cuda:1
        jobs: models trained at once; by default from the cores, the memory and the GPUs
        overwrite: replace an earlier comparison in the folder
        resume: continue an earlier comparison in the folder
    """
    from limner.data import load as load_dataset
    from limner.data import natural_observation
    from limner.device import pick_device

    pick_device(device)  # refused before any work
    if runs:
        given = {
            "--epochs": epochs is not None,
            "--minutes": minutes is not None,
            "--batch-size": batch_size is not None,
            "--seeds": seeds != (0,),
            "--evaluate-samples": evaluate_samples != 20,
            "--compile": compile != "auto",
            "--jobs": jobs is not None,
            "--overwrite": overwrite,
            "--resume": resume,
        }
        if flags := ", ".join(flag for flag, changed in given.items() if changed):
            raise InputError(f"RUNS are compared without training them; leave out {flags}.")
        if data.with_(root=None) != DEFAULT_DATA:
            raise InputError(
                "RUNS are compared on their own images; of the data flags, give only --data.root."
            )
        groups = _opened(runs, data.root)
        _check_place(out)
    else:
        if jobs is not None and jobs < 1:
            raise InputError(f"--jobs must be above zero; got {jobs}.")
        if evaluate_samples < 1:
            raise InputError(f"--evaluate-samples must be above zero; got {evaluate_samples}.")
        with waiting(f"loading {data.name}"):
            observation = natural_observation(load_dataset(data))
        configs = {
            name: config.with_(device=device)
            for name, config in _configs(
                data, epochs, minutes, batch_size, compile, observation
            ).items()
        }
        plan = _plan(configs, seeds, evaluate_samples)
        _claim(out, overwrite, resume)
        groups = _trained(plan, out, jobs, device)
    _show(groups, out, device)
    suggest("animate", runs[-1] if runs else list(groups.values())[-1][0].path)


def _show(groups: "Mapping[str, Sequence[Run]]", out: Path, device: str) -> None:
    """Write results.json and the report of a comparison, and print its table."""
    from rich.console import Console

    from limner.evaluation.comparison import compare_runs, comparison_table
    from limner.report import write
    from limner.storage import write_atomically

    rows = compare_runs(groups)
    command = shlex.join(["limner", *sys.argv[1:]])
    comparison = {"description": _description(groups), "command": command, "rows": rows}
    first = [group[0] for group in groups.values()]
    page = write(first, out / "report.html", comparison, device)
    write_atomically(out / "results.json", json.dumps(comparison, indent=2) + "\n")
    _warn_of_notes(groups)
    console, table = Console(), comparison_table(rows, comparison["description"])
    table.box, table.pad_edge = None, False  # so that four models fit 80 columns
    console.print(table)
    console.print(f"{page}", style="bold", highlight=False, markup=False)


def _configs(
    data: DataConfig,
    epochs: int | None,
    minutes: float | None,
    batch_size: int | None,
    compile: Literal["auto", "always", "never"],
    observation: str,
) -> dict[str, RunConfig]:
    """The study's models under one budget, with the observation that fits the images."""
    changes: dict[str, object] = {"data": data, "compile": compile}
    if epochs is not None or minutes is not None:
        changes |= {"epochs": epochs, "minutes": minutes}
    if batch_size is not None:
        changes["batch_size"] = batch_size
    return {
        name: config.with_(model=config.model.with_(observation=observation), **changes)
        for name, config in STUDY.items()
    }


def _opened(names: Sequence[str], root: Path | None) -> "dict[str, list[Run]]":
    """Finished runs, with their images in `root` if it is given."""
    from limner.training import Run

    runs = [Run.open(name) for name in names]
    if root is not None:
        runs = [run.on(run.config.data.with_(root=root)) for run in runs]
    groups = {run.name: [run] for run in runs}
    if len(groups) < len(runs):
        raise InputError("Two of these runs have the same folder name; rename one.")
    return groups


def _check_place(out: Path) -> None:
    """Refuse to overwrite a run, or a comparison that trained its models."""
    for name, what in (("config.json", "a run"), (PLAN, "a comparison that trained")):
        if (out / name).exists():
            raise InputError(f"{out} already holds {what}; choose another --out.")


def _plan(configs: Mapping[str, RunConfig], seeds: Sequence[int], samples: int) -> "list[Planned]":
    """The runs to train for each model."""
    from limner.studies import Planned
    from limner.studies.planning import slug

    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds takes one seed or several different ones; got {list(seeds)}.")
    return [
        Planned(
            {"model": name},
            config.with_(seed=seed, evaluate_samples=samples),
            slug(name) if len(seeds) == 1 else f"{slug(name)}-seed-{seed}",
        )
        for name, config in configs.items()
        for seed in seeds
    ]


def _trained(
    plan: "Sequence[Planned]", out: Path, jobs: int | None, device: str
) -> "dict[str, list[Run]]":
    """The finished runs of each model; with one job, they are trained in this process."""
    from limner.studies import carry_out
    from limner.studies.display import displayed
    from limner.studies.engines import Here, Processes
    from limner.studies.resources import shares_of

    shares = shares_of(plan, jobs)
    if len(shares) == 1:
        outcomes = carry_out(plan, out, Here(partial(_train, device=device)))
    else:
        with displayed("comparison") as show:
            outcomes = carry_out(plan, out, Processes(shares), show)
    for one in outcomes:
        if one.problem is not None:
            raise InputError(f"{one.folder.name} failed: {one.problem}")
    groups: dict[str, list[Run]] = {}
    for one in outcomes:
        groups.setdefault(one.planned.labels["model"], []).append(one.run)
    return groups


def _train(task: "Task", device: str) -> None:
    from limner.training import train

    config = RunConfig.read(task.config)
    begun = (task.folder / "config.json").is_file()
    run = train(config, task.folder, resume=begun, title=task.folder.name)
    evaluate_run(run, Options(num_samples=config.evaluate_samples, device=device))


def _warn_of_notes(groups: "Mapping[str, Sequence[Run]]") -> None:
    for run in (run for group in groups.values() for run in group):
        if note := (run.results() or {}).get("note"):
            warn(f"{run.name}: {note}")


def _claim(out: Path, overwrite: bool, resume: bool) -> None:
    """Check that `out` is new, empty, or an earlier comparison that may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not (out / PLAN).is_file():
        raise InputError(f"{out} exists and is not a comparison; choose another --out.")
    if resume:
        return
    if not overwrite:
        raise InputError(
            f"{out} already holds a comparison; continue it with --resume, replace it with "
            "--overwrite, or choose another --out."
        )
    from limner.studies.studying import held

    with held(out):  # no other command trains there
        pass
    shutil.rmtree(out)


def _description(groups: "Mapping[str, Sequence[Run]]") -> str:
    results = next(iter(groups.values()))[0].results() or {}
    seeds = max(len(runs) for runs in groups.values())
    return (
        f"{results['num_images']:,} {results['split']} images of {results['dataset']}, "
        f"{in_words(results['binarization'])}, nats per image"
        + (f", mean over {seeds} seeds" if seeds > 1 else "")
    )
