"""`limner compare`: several models side by side, trained alike or taken as finished runs."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from limner.commands.evaluate import evaluate_run
from limner.config import RunConfig
from limner.data import DataConfig
from limner.errors import InputError
from limner.evaluation.comparison import compare_runs, comparison_table
from limner.recipes import STUDY
from limner.report import write
from limner.training import Run, train
from limner.training.storage import write_atomically

DEFAULT_DATA = DataConfig()


def compare(
    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    /,
    *,
    out: Path = Path("runs/comparison"),
    data: DataConfig = DEFAULT_DATA,
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    seeds: tuple[int, ...] = (0,),
    evaluate_samples: int = 100,
    compile: Literal["auto", "always", "never"] = "auto",
    overwrite: bool = False,
    resume: bool = False,
) -> None:
    """Train and compare VAE, Ladder VAE and DRAW without and with attention, or compare RUNS.

    Every model sees the same images for the same number of epochs, or for the same time where
    --minutes is given. Writes results.json and report.html to --out.

    Args:
        runs: finished run folders, or names of trained models, to compare, in place of training.
        out: folder of the comparison.
        data: images to train on.
        epochs: passes over the images, for every model.
        minutes: training time of every model, in place of epochs.
        batch_size: images a step.
        seeds: one training of every model for each.
        evaluate_samples: K of the importance-weighted bound.
        compile: torch.compile the hot parts; auto compiles where it soon pays.
        overwrite: replace an earlier comparison in the folder.
        resume: go on with an earlier comparison in the folder.
    """
    if runs:
        groups = {run.name: [run] for run in map(Run.open, runs)}
        if len(groups) < len(runs):
            raise InputError("Two of these runs have the same folder name; rename one.")
        out.mkdir(parents=True, exist_ok=True)
    else:
        configs = _configs(data, epochs, minutes, batch_size, compile)
        _claim(out, overwrite, resume)
        _mark(out, configs, seeds)
        groups = {
            name: [
                _trained(config.with_(seed=seed), out / _folder(name, seed, seeds), name, resume)
                for seed in seeds
            ]
            for name, config in configs.items()
        }
        for run in (run for group in groups.values() for run in group):
            evaluate_run(run, num_samples=evaluate_samples)
    rows = compare_runs(groups)
    command = shlex.join(["limner", *sys.argv[1:]])
    comparison = {"description": _description(groups), "command": command, "rows": rows}
    write_atomically(out / "results.json", json.dumps(comparison, indent=2) + "\n")
    page = write([group[0] for group in groups.values()], out / "report.html", comparison)
    console = Console()
    console.print(comparison_table(rows, comparison["description"]))
    console.print(f"{page}", style="bold", highlight=False)


def _configs(
    data: DataConfig,
    epochs: int | None,
    minutes: float | None,
    batch_size: int | None,
    compile: Literal["auto", "always", "never"],
) -> dict[str, RunConfig]:
    """The study's models under one budget."""
    changes: dict[str, object] = {"data": data, "compile": compile}
    if epochs is not None or minutes is not None:
        changes |= {"epochs": epochs, "minutes": minutes}
    if batch_size is not None:
        changes["batch_size"] = batch_size
    return {name: config.with_(**changes) for name, config in STUDY.items()}


def _claim(out: Path, overwrite: bool, resume: bool) -> None:
    """Make sure that `out` is new, empty, or an earlier comparison that may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not (out / "comparison.json").is_file():
        raise InputError(f"{out} exists and is no comparison; choose another --out.")
    if resume:
        return
    if not overwrite:
        raise InputError(
            f"{out} already holds a comparison; go on with it with --resume, replace it with "
            "--overwrite, or choose another --out."
        )
    shutil.rmtree(out)


def _mark(out: Path, configs: Mapping[str, RunConfig], seeds: Sequence[int]) -> None:
    """Write what is compared, by which the folder is known as a comparison."""
    plan = {name: config.model_dump(mode="json") for name, config in configs.items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot write to {out}: {error.strerror}; choose another --out."
        ) from None
    content = json.dumps({"seeds": list(seeds), "configs": plan}, indent=2)
    write_atomically(out / "comparison.json", content + "\n")


def _folder(name: str, seed: int, seeds: Sequence[int]) -> str:
    folder = re.sub(r"[^a-z0-9]+", "-", name.lower())
    return folder if len(seeds) == 1 else f"{folder}-seed-{seed}"


def _trained(config: RunConfig, out: Path, title: str, resume: bool) -> Run:
    return train(config, out, resume=resume and (out / "config.json").is_file(), title=title)


def _description(groups: Mapping[str, Sequence[Run]]) -> str:
    results = next(iter(groups.values()))[0].results() or {}
    seeds = max(len(runs) for runs in groups.values())
    return (
        f"{results['num_images']:,} {results['split']} images of {results['dataset']}, "
        f"{results['binarization']} binarization, nats an image"
        + (f", mean over {seeds} seeds" if seeds > 1 else "")
    )
