"""`limner evaluate`: -ELBO, -L_K and their parts, and what exactly they are about."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from limner.commands.options import (
    FLAT,
    Pictures,
    RunName,
    Subject,
    check_split,
    in_file_name,
    key_of,
    shown_images,
    shows_others,
)
from limner.data import Split
from limner.data.config import in_words
from limner.errors import InputError, printable
from limner.progress import counted, progress_bar, suggest, warn, wrapped

if TYPE_CHECKING:
    from rich.table import Table

    from limner.data import Dataset, Frozen
    from limner.data import Images as Pixels
    from limner.evaluation import Evaluation
    from limner.training.runs import Run

MANY_PICTURES = 20
"""Of at most as many pictures, the figures of each are printed."""
MANY_GROUPS = 16
"""More latent groups than this are summed up in one line, unless --per-step is given."""


@dataclass(frozen=True)
class Options(Subject):
    """What to evaluate."""

    num_samples: int = 100
    """number K of samples of the importance-weighted bound"""
    num_images: int | None = None
    """evaluate only this many images, the first of the split; all if not given"""
    split: Split = "test"
    """the images to evaluate on"""
    num_steps: int | None = None
    """number of steps of a DRAW; as many as in training if not given"""
    per_step: bool = False
    """also evaluate -ELBO of a DRAW after each step"""
    coded: int | None = None
    """also compress this many images, the first, and report the bits that they take"""
    seed: int = 0
    """seed of the noise"""
    out: Path | None = None
    """folder for the results; the run folder if not given"""


DEFAULTS = Options()


class Evaluated(NamedTuple):
    """The results of an evaluation, and the file that holds them."""

    results: dict[str, Any]
    path: Path
    images: str
    """Which images, such as "20 of 500 test images of digits"."""


def evaluate(
    run: RunName,
    /,
    options: Annotated[Options, FLAT] = DEFAULTS,
    *,
    pictures: Pictures = (),
) -> None:
    """Measure -ELBO, -L_K, reconstruction, KL and active units of a trained model.

    Figures are in nats per image; lower is better. L_K is the importance-weighted bound with K
    samples.

    Writes RUN/evaluation/NAME.json, whose name says what was evaluated, and the values of each
    image beside it. The evaluation of all test images with the best averaged weights and the
    trained number of steps is the result of the run, and is also written to RUN/results.json and
    RUN/per_image.safetensors. With --out, files go to that folder in place of RUN. To continue an
    interrupted evaluation, repeat the command.
    """
    opened = options.data.open(run)
    show(opened, evaluated(opened, options, pictures))
    suggest("report", run)


def evaluate_run(
    run: "Run", options: Options = DEFAULTS, pictures: tuple[Path, ...] = ()
) -> tuple[dict[str, Any], Path]:
    """Evaluate a run on its `data`, or on `pictures`; returns the results and their file."""
    return evaluated(run, options, pictures)[:2]


def evaluated(run: "Run", options: Options, pictures: tuple[Path, ...] = ()) -> Evaluated:
    """Evaluate a run on its `data`, or on `pictures`, and write the results."""
    from rich.console import Console

    from limner.data import Frozen
    from limner.evaluation import evaluate_model, results_of, set_num_steps
    from limner.evaluation.coded import check_coded, coded_figures
    from limner.training.made import maker

    check_split(pictures, options.split)
    run = run.to(options.out)
    model, dataset = options.load(run), shown_images(run, pictures, note=False)
    trained_steps = model.num_groups
    if options.num_steps is not None:
        set_num_steps(model, options.num_steps)
    images = dataset.split(options.split)
    x = _first(Frozen(dataset, options.split, run.config.model.observation), options)
    if options.coded is not None:
        check_coded(model, options.coded, len(x))
    if note := _seen(run, images.take(slice(len(x))), options, bool(pictures)):
        warn(note)
    changes = _changes(run, dataset, options, trained_steps, bool(pictures))
    name = "-".join([*changes, f"K{options.num_samples}", f"seed{options.seed}"])
    path = run.place(f"evaluation/{name}.json")
    device = next(model.parameters()).device
    what = f"of {dataset.name}, K = {options.num_samples}, to {path}"
    with progress_bar(f"evaluating {run.name}", len(x), about=what) as report:
        evaluation = evaluate_model(
            model,
            x,
            options.num_samples,
            options.seed,
            per_step=options.per_step,
            partial_folder=path.parent,
            report=report,
        )
    about = _about(run, dataset, options) | ({"note": note} if note else {})
    if pictures:
        about |= {"split": "pictures", "names": list(images.names or ())[: len(x)]}
    results = results_of(evaluation, about | {"evaluated_with": maker(device).model_dump()})
    if options.coded is not None:
        with progress_bar(f"compressing with {run.name}", options.coded) as report:
            found = coded_figures(model, x.first(options.coded)[:], evaluation.elbo, report)
        results |= {"coded": found}
    _write(path, path.with_suffix(".safetensors"), evaluation, results)
    if pictures and len(x) <= MANY_PICTURES:
        Console().print(_pictures_table(results["names"], evaluation))
    if not changes:
        path = run.place("results.json")
        _write(path, run.place("per_image.safetensors"), evaluation, results)
    return Evaluated(results, path, _images(results, len(images)))


def _seen(run: "Run", images: "Pixels", options: Options, pictures: bool) -> str | None:
    """A note for results on images that the model was trained on."""
    from limner.training.seen import remembered
    from limner.training.start import seen_before

    note = None if pictures else seen_before(run, run.data)
    if note is None and (pictures or options.split != "train"):
        note = remembered(run, images)
    return note


def _changes(
    run: "Run", dataset: "Dataset", options: Options, trained_steps: int, pictures: bool
) -> list[str]:
    """What differs from the evaluation that is the run's result."""
    split = f"pictures-{key_of(dataset.test)}" if pictures else options.split
    chosen = {split: "test", options.checkpoint: "best", options.weights: "ema"}
    changes = [name for name, usual in chosen.items() if name != usual]
    if options.num_steps not in (None, trained_steps):
        changes.append(f"steps{options.num_steps}")
    if shows_others(run):
        changes.append(in_file_name(dataset.name))
    if options.num_images not in (None, len(dataset.split(options.split))):
        changes.append(f"first{options.num_images}")
    return changes


def _first(x: "Frozen", options: Options) -> "Frozen":
    """As many images as are asked for."""
    count = len(x) if options.num_images is None else options.num_images
    if count > len(x):
        raise InputError(
            f"The {options.split} split has {len(x)} images; lower --num-images {count}."
        )
    return x.first(max(count, 0))


def _write(
    path: Path, values_path: Path, evaluation: "Evaluation", results: dict[str, Any]
) -> None:
    """Write the values of each image first, so that results never exist without them."""
    from limner.storage import save_tensors, write_atomically

    save_tensors(values_path, evaluation.per_image, results)
    write_atomically(path, json.dumps(results, indent=2, allow_nan=False) + "\n")


def _about(run: "Run", dataset: "Dataset", options: Options) -> dict[str, Any]:
    """What was evaluated, and how it was trained."""
    last = (run.metrics() or [{}])[-1]
    return {
        "model": run.config.model.kind,
        "dataset": dataset.name,
        "binarization": dataset.binarization,
        "draw_seed": dataset.draw_seed,
        "data": run.data.model_dump(mode="json", exclude={"name", "root"}),
        "skipped": dataset.found.skipped if dataset.found else "",
        "training_seed": run.config.seed,
        "started_from": run.config.start_from,
        "training_seconds": last.get("seconds"),
        "epochs": last.get("epoch"),
        "images_per_second": last.get("images_per_second"),
        "trained_with": [one.model_dump() for one in run.made()],
        "split": options.split,
        "checkpoint": options.checkpoint,
        "weights": options.weights if run.config.ema_decay else "raw",
        "validation_elbo": run.validation_elbo(options.checkpoint),
    }


def _images(results: dict[str, Any], total: int) -> str:
    """Which images were evaluated, of `total`."""
    if "names" in results:
        return str(results["dataset"])
    count, split, dataset = results["num_images"], results["split"], results["dataset"]
    if count == total:
        return f"{counted(count, f'{split} image')} of {dataset}"
    return f"{count:,} of {total:,} {split} images of {dataset}, indicative only"


def _pictures_table(names: list[str], evaluation: "Evaluation") -> "Table":
    """The figures of each picture."""
    from rich.markup import escape
    from rich.table import Table

    values, samples = evaluation.per_image, evaluation.num_samples
    table = Table("picture", title="nats, lower is better", title_justify="left")
    for heading in ("-ELBO", f"-L_{samples}", "KL"):
        table.add_column(heading, justify="right")
    for place, name in enumerate(names):
        figures = -values["elbo"][place], -values["iw_bound"][place], values["kl"][place].sum()
        table.add_row(escape(printable(name)), *(f"{figure:.2f}" for figure in figures))
    return table


def show(run: "Run", done: Evaluated) -> None:
    """Print the tables of an evaluation."""
    from rich.console import Console

    from limner.evaluation.tables import groups_table, results_table

    results = done.results
    title = (
        f"{run.name}: {results['model']}, {done.images}, "
        f"{in_words(results['binarization'])}, {results['checkpoint']} {results['weights']} "
        f"weights, seed {results['seed']}"
    )
    console = Console()
    console.print(results_table(results, title))
    if len(results["group_names"]) <= MANY_GROUPS or "elbo_per_step" in results:
        console.print(groups_table(results))
    elif None not in results["active_units"]:
        active, units = sum(results["active_units"]), sum(results["latent_units"])
        console.print(f"{active:,} of {units:,} latent units are active")
    print(wrapped(f"written to {done.path}", sys.stdout))
