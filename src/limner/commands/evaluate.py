"""`limner evaluate`: the bounds of a trained model, and what exactly they are about."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from torch import Tensor

from limner.commands.images import DataName, DataRoot, other_data
from limner.data import DataConfig, Dataset, Split, frozen
from limner.data import names as datasets
from limner.device import Device, pick_device
from limner.errors import InputError
from limner.evaluation import Evaluation, evaluate_model, results_of, set_num_steps
from limner.evaluation.results import groups_table, results_table
from limner.progress import progress_bar, warn
from limner.training.made import maker
from limner.training.runs import Checkpoint, Run, WeightKind
from limner.training.start import seen_before
from limner.training.storage import save_tensors, write_atomically

MANY_GROUPS = 16
"""More latent groups than this get one line together, unless they are asked for."""


def evaluate(
    run: Annotated[str, tyro.conf.Positional],
    /,
    *,
    num_samples: int = 100,
    num_images: int | None = None,
    split: Split = "test",
    checkpoint: Checkpoint = "best",
    weights: WeightKind = "ema",
    num_steps: int | None = None,
    per_step: bool = False,
    data_name: DataName = None,
    data_root: DataRoot = None,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """ELBO, importance-weighted bound, KL and active units of a trained model.

    Writes RUN/evaluation/NAME.json, whose name says what was evaluated, and beside it the values of
    single images. All test images, the best averaged weights and the trained number of steps are
    the results of the run: they are also written to RUN/results.json and RUN/per_image.safetensors.
    The same command takes up an evaluation that was interrupted.

    Args:
        run: a run folder, or the name of a trained model
        num_samples: K of the importance-weighted bound
        num_images: the first so many images of the split; all if not given
        split: the images to evaluate on
        checkpoint: best by the validation bound, or last
        weights: averaged over training steps (ema), or raw
        num_steps: steps of a DRAW, in place of those it was trained with
        per_step: also the ELBO of a DRAW after each of its steps
        seed: of the noise
        device: where to compute
    """
    opened = Run.open(run)
    results, path = evaluate_run(
        opened,
        num_samples=num_samples,
        num_images=num_images,
        split=split,
        checkpoint=checkpoint,
        weights=weights,
        num_steps=num_steps,
        per_step=per_step,
        data=other_data(opened, data_name, data_root),
        seed=seed,
        device=device,
    )
    _print(opened, results, path)


def evaluate_run(
    run: Run,
    *,
    num_samples: int = 100,
    num_images: int | None = None,
    split: Split = "test",
    checkpoint: Checkpoint = "best",
    weights: WeightKind = "ema",
    num_steps: int | None = None,
    per_step: bool = False,
    data: DataConfig | None = None,
    seed: int = 0,
    device: Device = "auto",
) -> tuple[dict[str, Any], Path]:
    """What `limner evaluate` does; returns the results and the file that they were written to."""
    model = run.model(checkpoint, weights)
    changes = _changes(split, checkpoint, weights)
    if num_steps is not None:
        trained = model.num_groups
        set_num_steps(model, num_steps)
        changes += [f"steps{num_steps}"] if num_steps != trained else []
    dataset = run.dataset(data)
    if data is not None and (data.name != run.config.data.name or data.name not in datasets()):
        changes.append(re.sub(r"\W+", "-", dataset.name))
    x = frozen(dataset, split, run.config.model.observation)
    if num_images is not None and num_images != len(x):
        x = _first(x, num_images, split)
        changes.append(f"first{num_images}")
    note = seen_before(run, data or run.data)
    if note is not None:
        warn(note)
    name = "-".join([*changes, f"K{num_samples}", f"seed{seed}"])
    path = run.place(f"evaluation/{name}.json")
    device_used = pick_device(device)
    measured = weights if run.config.ema_decay else "raw"
    about = _about(run, dataset) | {"split": split, "checkpoint": checkpoint, "weights": measured}
    about["validation_elbo"] = run.validation_elbo(checkpoint)
    about |= {"note": note} if note else {}
    with progress_bar(f"evaluating {run.name}", len(x)) as report:
        evaluation = evaluate_model(
            model.to(device_used),
            x,
            num_samples,
            seed,
            per_step=per_step,
            partial_folder=path.parent,
            report=report,
        )
    about["evaluated_with"] = maker(device_used).model_dump()
    results = results_of(evaluation, about)
    _write(path, path.with_suffix(".safetensors"), evaluation, results)
    if not changes:
        path = run.place("results.json")
        _write(path, run.place("per_image.safetensors"), evaluation, results)
    return results, path


def _changes(split: Split, checkpoint: Checkpoint, weights: WeightKind) -> list[str]:
    """What differs from the evaluation that is the run's result."""
    chosen = {split: "test", checkpoint: "best", weights: "ema"}
    return [name for name, usual in chosen.items() if name != usual]


def _first(x: Tensor, count: int, split: Split) -> Tensor:
    if count > len(x):
        raise InputError(f"The {split} split has {len(x)} images; lower --num-images {count}.")
    return x[: max(count, 0)]


def _write(path: Path, values_path: Path, evaluation: Evaluation, results: dict[str, Any]) -> None:
    """Values of single images first, so that results are never without them."""
    save_tensors(values_path, evaluation.per_image, results)
    write_atomically(path, json.dumps(results, indent=2, allow_nan=False) + "\n")


def _about(run: Run, dataset: Dataset) -> dict[str, Any]:
    """What the training contributes to the results."""
    last = (run.metrics() or [{}])[-1]
    return {
        "model": run.config.model.kind,
        "dataset": dataset.name,
        "binarization": dataset.binarization,
        "draw_seed": dataset.draw_seed,
        "training_seed": run.config.seed,
        "started_from": run.config.start_from,
        "training_seconds": last.get("seconds"),
        "epochs": last.get("epoch"),
        "images_per_second": last.get("images_per_second"),
        "trained_with": [one.model_dump() for one in run.made()],
    }


def _print(run: Run, results: dict[str, Any], path: Path) -> None:
    title = (
        f"{run.name}: {results['model']}, {results['num_images']:,} {results['split']} images of "
        f"{results['dataset']}, {results['binarization']} binarization, {results['checkpoint']} "
        f"{results['weights']} weights, seed {results['seed']}"
    )
    console = Console()
    console.print(results_table(results, title))
    if len(results["group_names"]) <= MANY_GROUPS or "elbo_per_step" in results:
        console.print(groups_table(results))
    else:
        active, units = sum(results["active_units"]), sum(results["latent_units"])
        console.print(f"{active:,} of {units:,} latent units are active")
    console.print(f"written to {path}", highlight=False, soft_wrap=True)
