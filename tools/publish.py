"""Put a finished run into the repository: its results, and its weights under a name.

    python -m tools.publish RUN --name NAME

writes results/NAME (config, results, metrics, figures), src/limner/weights/NAME (a run folder with
the best averaged weights and a model card), and the pages of results/ again. It publishes the last
evaluation on all test images, so run `limner evaluate RUN --num-samples K` first. Run it from the
root of the checkout.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import tyro

from limner.config import RunConfig
from limner.data import names as datasets
from limner.data import seen_in_training
from limner.data.config import in_words
from limner.errors import InputError
from limner.figures import gallery, style
from limner.figures.subject import Subject
from limner.report.published import Published, published_for
from limner.report.wording import NOTHING, number, plain, with_error
from limner.settings import read_json
from limner.storage import load_tensors, save_tensors, write_atomically
from limner.training import named
from limner.training.runs import Run

RESULTS = Path(__file__).parents[1] / "results"
MAX_RESULTS, MAX_WEIGHTS = 2**20, 40 * 2**20
"""Limits in bytes: for one folder of results, and for all weights."""
LEFT_OUT = ("representation",)
"""Large figures with little information."""
COUNTERPARTS = {
    "vae": "VAE, one layer",
    "ladder-vae": "Ladder VAE",
    "draw, none": "DRAW without attention",
    "draw, filterbank": "DRAW, filterbank attention",
    "conv-draw": "ConvDRAW",
}
"""How the names of published results of a model begin."""


Maker = Mapping[str, Any]
"""Commit, versions and hardware."""


class Entry(NamedTuple):
    """A published run."""

    name: str
    config: RunConfig
    results: Mapping[str, Any]
    home: Path = RESULTS
    """The folder with the results of all runs."""


def publish(
    run: Annotated[str, tyro.conf.Positional],
    /,
    *,
    name: str,
    commit: str | None = None,
    hardware: str | None = None,
    target: str | None = None,
    weights: bool = True,
    home: Path = RESULTS,
) -> None:
    """Publish a run.

    Args:
        run: the run's folder
        name: name of the results and of the trained model
        commit: commit that trained and evaluated it, if the run has no record
        hardware: hardware that trained and evaluated it, if the run has no good record
        target: target in nats, and for which bound
        weights: also publish the trained model, which limner.load then knows by its name
        home: folder for the results
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise InputError(f"--name takes small letters, digits and hyphens; got {name}.")
    found = Run.at(Path(run))
    if not weights and name in named.names():
        raise InputError(f"{name} names other weights; publish them too, or choose another name.")
    results = _results(found, commit, hardware, target)
    entry = Entry(name, _portable(found.config, home), results, home)
    if name in [one.name for one in _trainings(entry)[:-1]]:
        raise InputError(f"{name} is what this run started from; publish it by another name.")
    for place in (home, named.FOLDER):
        place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=home) as one, TemporaryDirectory(dir=named.FOLDER) as other:
        made = {home / name: Path(one), named.FOLDER / name: Path(other)}
        if not weights:
            made.pop(named.FOLDER / name)
        else:
            _write_model(Path(other), found, entry)
            kept = [path for path in named.FOLDER.glob("*/") if path.name != name]
            _check_size(kept, MAX_WEIGHTS)
        _write_results(Path(one), found, entry)
        _check_size([Path(one)], MAX_RESULTS)
        for folder, new in made.items():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(new, folder)
    _write_pages(entries(home), home)


def entries(home: Path = RESULTS) -> list[Entry]:
    """All published runs, by name."""
    return [_entry(path.parent.name, home) for path in sorted(home.glob("*/config.json"))]


def _entry(name: str, home: Path) -> Entry:
    run = Run.at(home / name)
    return Entry(name, run.config, read_json(run.path / "results.json"), home)


def _trainings(entry: Entry) -> list[Entry]:
    """Its trainings in order: those it started from, then its own."""
    start = entry.config.start_from
    return [*(_trainings(_entry(Path(start).name, entry.home)) if start else ()), entry]


def _portable(config: RunConfig, home: Path) -> RunConfig:
    """The config without the folder of the images on this machine."""
    if config.start_from is not None and not _others_have(config.start_from, home):
        raise InputError(f"Others do not have {config.start_from}; publish it first, by its name.")
    if config.data.name not in datasets():
        raise InputError(
            f"Others do not have {config.data.name}; publish runs on datasets by name."
        )
    return config.with_(data=config.data.with_(root=None))


def _others_have(start: str, home: Path) -> bool:
    """Whether it is the name of a trained model, or where the commands in results/ put that run."""
    run, published = Path(start), home / Path(start).name
    if start in named.names() and not run.exists():
        return True
    metrics = [folder / "metrics.jsonl" for folder in (run, published)]
    return (
        run == Path("runs") / published.name
        and all(file.is_file() for file in metrics)
        and len({file.read_bytes() for file in metrics}) == 1
    )


def _results(
    run: Run, commit: str | None, hardware: str | None, target: str | None
) -> dict[str, Any]:
    """The run's results, with the commits and machines that made them."""
    results = run.results()
    if results is None:
        raise InputError(f"{run.path} was not evaluated; run limner evaluate {run.path} first.")
    given = {key: value for key, value in (("commit", commit), ("hardware", hardware)) if value}
    trained = [maker.model_dump() | given for maker in run.made()] or [given]
    measured = results.get("evaluated_with", {}) | given
    for maker in (*trained, measured):
        if not maker.get("commit") or not maker.get("hardware"):
            raise InputError(
                f"{run.path} has no record of what made it; pass --commit and --hardware."
            )
    made = {"trained_with": trained, "evaluated_with": measured}
    return results | made | ({"target": target} if target else {})


def _write_results(folder: Path, run: Run, entry: Entry) -> None:
    _write_facts(folder, run, entry)
    subject = Subject(run.model(), run.dataset(), run.metrics())
    for picture in gallery.pictures(subject):
        if picture.name not in LEFT_OUT:
            heading = f"{picture.title}: {run.name}"
            style.save(
                picture.figure, folder, picture.name, ("png",), title=heading, note=picture.caption
            )


def _write_model(folder: Path, run: Run, entry: Entry) -> None:
    _write_facts(folder, run, entry)
    _write_weights(folder, run, entry)
    write_atomically(folder / "README.md", card(entry))


def _write_facts(folder: Path, run: Run, entry: Entry) -> None:
    write_atomically(folder / "config.json", entry.config.to_json())
    write_atomically(folder / "results.json", json.dumps(entry.results, indent=2) + "\n")
    for name in ("metrics.jsonl", "made.json"):
        if (run.path / name).is_file():
            shutil.copyfile(run.path / name, folder / name)


def _write_weights(folder: Path, run: Run, entry: Entry) -> None:
    """The best weights, averaged if the run averages, in float32 as in training."""
    tensors, document = load_tensors(run.weights("best")[0])
    bound = entry.results.get("validation_elbo")
    if bound is not None and bound != document["validation_elbo"]:
        raise InputError(
            f"{run.path} was trained further since its evaluation; run limner evaluate {run.path} "
            "again."
        )
    kind = "ema." if entry.config.ema_decay else "raw."
    kept = {key: tensor for key, tensor in tensors.items() if key.startswith(kind)}
    document |= {"config": entry.config.model_dump(mode="json")}
    save_tensors(folder / "model.safetensors", kept, document)


def _write_pages(published: Sequence[Entry], home: Path) -> None:
    write_atomically(home / "README.md", page(published))
    for entry in published:
        write_atomically(home / entry.name / "README.md", run_page(entry))


def _check_size(folders: Sequence[Path], limit: int) -> None:
    size = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    if size > limit:
        raise InputError(
            f"{folders[0].parent} takes {size / 2**20:.1f} MiB, more than {limit / 2**20:g}; "
            "publish less."
        )


# Words


def counterpart(entry: Entry) -> Published | None:
    """The published result of the same model, with the same binarization if there is one."""
    if seen_in_training("mnist", entry.results["dataset"]):
        return None  # a few thousand digits are not comparable with any paper
    model = entry.config.model
    kind = ", ".join(filter(None, (model.kind, getattr(model, "attention", None))))
    alike = [
        found
        for found in published_for(entry.results["dataset"])
        if kind in COUNTERPARTS and found.model.startswith(COUNTERPARTS[kind])
    ]
    same = [found for found in alike if found.binarization == entry.results["binarization"]]
    return next(iter([*same, *alike]), None)


COLUMNS = (
    *("model", "-ELBO", "-L_K", "bits per dimension", "parameters", "epochs", "hours", "published"),
)


def page(published: Sequence[Entry]) -> str:
    """results/README.md: a table for each dataset and binarization, and the command of each row."""
    groups: dict[str, list[Entry]] = {}
    for entry in published:
        groups.setdefault(_images(entry), []).append(entry)
    parts = [
        f"\n## {images}\n\n{_table(COLUMNS, map(_row, alike))}\n{_commands(alike)}"
        for images, alike in groups.items()
    ]
    return _HEAD + "".join(parts)


def _images(entry: Entry) -> str:
    dataset, binarization = entry.results["dataset"], entry.results["binarization"]
    return f"{dataset}, {in_words(binarization)}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (columns, ["---"] * len(columns), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_HEAD = """# Results

Nats per image over all test images, lower is better, ± the standard error over images. -L_K is
the importance-weighted bound of K samples; bits per dimension are those of -ELBO. A result is
comparable with a published one only if bound, K and binarization are the same: on MNIST, static
binarization costs about two nats more than dynamic, and an ELBO is two to four nats worse than
L_5000. Hours are training time only; if a training started from the weights of another, they are a
sum, with those of the other first. The page of each model has its seed, commit, hardware and
figures. `python -m tools.publish` writes these pages.

The table in the README of the project is from `make study`, seed 0, commit 00536fe, two cores of an
AMD EPYC (family 25, AVX2): 500 test digits of mnist-5k. [What depth buys](./depth/README.md)
compares depth in space and in time; other studies are of [filters](./attention/README.md) and of
[four models](./four/README.md). [speedrun.md](./speedrun.md) has the time to a given bound, and
[compression.md](./compression.md) bits per pixel beside other codecs.
"""


def _row(entry: Entry) -> list[str]:
    results, published = entry.results, counterpart(entry)
    bound = results["iw_bound"]
    return [
        f"[{entry.name}](./{entry.name}/README.md)",
        with_error(results["elbo"], -1),
        f"{with_error(bound, -1)} (K = {number(bound['num_samples'])})",
        f"{results['bits_per_dim']['elbo']['mean']:.3f}",
        f"{results['parameters'] / 1e6:.2f} M",
        _epochs(entry),
        " + ".join(map(_hours, _trainings(entry))),
        f"{published.nats} ({published.bound}, {published.binarization})" if published else NOTHING,
    ]


def _commands(alike: Sequence[Entry]) -> str:
    width = max(len(entry.name) for entry in alike)
    lines = [
        f"limner train --config results/{entry.name}/config.json".ljust(43 + width)
        + f" --out runs/{entry.name}"
        for entry in alike
    ]
    return "```sh\n" + "\n".join(lines) + "\n```\n"


def run_page(entry: Entry) -> str:
    """results/NAME/README.md."""
    published, pictures = counterpart(entry), sorted((entry.home / entry.name).glob("*.png"))
    held = f"- Published: {_cited(published)}\n" if published else ""
    if "target" in entry.results:
        held += f"- Target: {entry.results['target']}\n"
    shown = "".join(f"\n![{file.stem}]({file.name})\n" for file in pictures)
    return f"# {entry.name}\n\n{_facts(entry, f'runs/{entry.name}')}{held}{shown}"


def _facts(entry: Entry, run: str) -> str:
    """How it was trained and measured: command, seed, commit, hardware."""
    results, train = entry.results, entry.config
    measured, (*before, _) = results["evaluated_with"], _trainings(entry)
    started = "".join(
        f", from the weights of {one.name} ({_epochs(one)} epochs, {_hours(one)} hours)"
        for one in reversed(before)
    )
    return (
        f"- Trained by `limner train --config results/{entry.name}/config.json --out "
        f"runs/{entry.name}`: {_epochs(entry)} epochs in {_hours(entry)} hours{started}, "
        f"seed {train.seed}, commit {_each(results['trained_with'], _commit)}, on "
        f"{_machines(entry)}\n"
        f"- Measured by `limner evaluate {run} --num-samples {results['iw_bound']['num_samples']} "
        f"--seed {results['seed']}`: {_measured(results)}, commit {_commit(measured)}, on "
        f"{_machine(measured)}\n"
    )


def _measured(results: Mapping[str, Any]) -> str:
    bound = results["iw_bound"]
    return (
        f"-ELBO {with_error(results['elbo'], -1)}, -L_{bound['num_samples']} "
        f"{with_error(bound, -1)} nats on {number(results['num_images'])} {results['split']} "
        f"images of {results['dataset']}, {results['binarization']} binarization"
    )


def _cited(published: Published) -> str:
    return (
        f"{published.model}, {published.nats} ({published.bound}, {published.binarization}; "
        f"{published.source})"
    )


def _epochs(entry: Entry) -> str:
    done, wanted = entry.results["epochs"], entry.config.epochs
    done = None if done is None else round(done, 1)
    short = done is not None and wanted is not None and done < wanted
    return f"{plain(done)} of {wanted}" if short else plain(done)


def _hours(entry: Entry) -> str:
    seconds = entry.results["training_seconds"]
    return NOTHING if seconds is None else f"{seconds / 3600:.2f}"


def _machines(entry: Entry) -> str:
    return _each(entry.results["trained_with"], _machine)


def _each(makers: Sequence[Maker], told: Callable[[Maker], str]) -> str:
    """What `told` says of the makers of a run, without repetition."""
    return "; ".join(dict.fromkeys(map(told, makers)))


def _commit(maker: Maker) -> str:
    return maker["commit"]


def _machine(maker: Maker) -> str:
    threads = maker.get("threads")
    if not threads or "thread" in maker["hardware"]:
        return maker["hardware"]
    return f"{threads} thread{'s' if threads > 1 else ''} of {maker['hardware']}"


def card(entry: Entry) -> str:
    """The model card."""
    name, results, data = entry.name, entry.results, entry.config.data
    shape, known = " × ".join(map(str, results["image_shape"])), counterpart(entry)
    beside = f" Published: {_cited(known)}." if known else ""
    trained_on = dict.fromkeys(one.config.data.name for one in _trainings(entry))
    taken = [
        note
        for other in datasets()
        for trained in trained_on
        if (note := seen_in_training(trained, other))
    ]
    limits = [
        f"It was trained only on images like those of {data.name}: {shape}, "
        f"{results['binarization']} binarization, {results['observation']} observation. Its bounds "
        "and samples say little about other images.",
        "One training with one seed: the standard error is over test images, and does not include "
        "the variation between seeds. A bound is a lower bound of log p(x), not log p(x).",
        "Samples from its prior are not selected, and some are unreadable.",
        *taken,
    ]
    return (
        f"# {name}\n\nA `{entry.config.model.kind}` of Limner with "
        f"{number(results['parameters'])} parameters, the best averaged weights by the "
        f"validation bound, in float32.\n\n"
        f'    model = limner.load("{name}")\n    limner sample {name}\n\n'
        f"## Data\n\n{data.name}, {results['binarization']} binarization, in Limner's split; "
        f"trained on the training images of {' and '.join(trained_on)} only. The images are not "
        f"part of this model; `limner data get {data.name}` downloads them.\n\n"
        f"## Result\n\n{_measured(results)}.{beside}\n\n"
        f"## Commands\n\n{_facts(entry, name)}\n"
        f"## Licence\n\nMIT, as Limner.\n\n"
        f"## Limits\n\n" + "".join(f"- {limit}\n" for limit in limits)
    )


if __name__ == "__main__":
    try:
        tyro.cli(publish, prog="python -m tools.publish", config=(tyro.conf.FlagCreatePairsOff,))
    except InputError as error:
        sys.exit(f"publish: {error}")
