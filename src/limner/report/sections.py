"""The content of the page about one run, and about several side by side."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from limner.data import Dataset
from limner.data.config import in_words
from limner.errors import InputError
from limner.evaluation.comparison import compare_runs
from limner.figures import curves, gallery, grids, scenes
from limner.figures.gallery import Picture
from limner.figures.subject import Subject
from limner.models import LatentVariableModel
from limner.pictures import to_rgb
from limner.report.published import Published, published_for
from limner.report.shown import ShownFilm, ShownPicture, shown, shown_film
from limner.report.wording import Stat, duration, mean_of, millions, number, plain, with_error
from limner.training.runs import Run

MAX_IMAGES = 2000
"""Test images used for the statistics of the page."""
FILM_IMAGES = 16


@dataclass(frozen=True)
class Section:
    """Everything the page shows about one run."""

    anchor: str
    label: str
    facts: list[tuple[str, str]]
    numbers: list[tuple[str, str]]
    films: list[ShownFilm]
    pictures: list[ShownPicture]
    config: str
    versions: list[tuple[str, str]]
    commands: list[str]


def section(index: int, run: Run, label: str, subject: Subject) -> Section:
    """The section of run number `index`."""
    results = run.results() or {}
    return Section(
        anchor=f"run-{index}",
        label=label,
        facts=_facts(run, results, subject.model, subject.dataset),
        numbers=_numbers(results),
        films=_films(subject),
        pictures=[shown(picture) for picture in gallery.pictures(subject)],
        config=json.dumps(run.config.model_dump(mode="json"), indent=2, ensure_ascii=False),
        versions=[(name, str(version)) for name, version in results.get("versions", {}).items()],
        commands=_commands(run),
    )


def _facts(
    run: Run, results: Mapping[str, Any], model: LatentVariableModel, dataset: Dataset
) -> list[tuple[str, str]]:
    config, metrics = run.config, run.metrics()
    last = metrics[-1] if metrics else {}
    facts = [
        ("model", config.model.kind),
        ("parameters", number(results.get("parameters", model.num_parameters))),
        ("latent groups", str(model.num_groups)),
        ("images shown", f"{dataset.name}, {' × '.join(map(str, dataset.image_shape))}"),
        ("binarization", dataset.binarization),
        ("observation", config.model.observation),
        (
            ("training images", number(len(dataset.train.levels)))
            if run.shows_its_own
            else ("trained on", config.data.name)
        ),
        *([("started from", config.start_from)] if config.start_from else []),
        ("epochs", plain(last.get("epoch", results.get("epochs")))),
        ("batch", plain(config.batch_size)),
        ("seed", plain(config.seed)),
        ("training time", duration(results.get("training_seconds", last.get("seconds")))),
        (
            "images per second",
            number(results.get("images_per_second", last.get("images_per_second"))),
        ),
    ]
    skipped = last.get("skipped_steps", 0)
    return facts + ([("steps skipped", str(skipped))] if skipped else [])


def _numbers(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Results with their errors; empty if the run was not evaluated."""
    if not results:
        return []
    samples = (results.get("iw_bound") or {}).get("num_samples", "K")
    active = results.get("active_units")
    numbers = [
        ("−ELBO", with_error(results.get("elbo"), -1)),
        ("−log p(x | z)", with_error(results.get("reconstruction"), -1)),
        ("KL", with_error(results.get("kl"))),
        (f"−L, K = {samples}", with_error(results.get("iw_bound"), -1)),
        ("bits per dimension", with_error(_bits(results), digits=4)),
        (
            "measured on",
            f"{number(results.get('num_images'))} {results.get('split', 'test')} images of "
            f"{results['dataset']}, {in_words(results['binarization'])}",
        ),
        *([("note", results["note"])] if "note" in results else []),
    ]
    if active and None not in active:
        units = results.get("latent_units")
        total = f" of {sum(units)}" if units else ""
        numbers.insert(-1, ("active units", f"{sum(active)}{total}"))
    return numbers


def _bits(results: Mapping[str, Any]) -> Stat:
    """Bits per dimension of the ELBO."""
    bits = results.get("bits_per_dim")
    return bits.get("elbo", bits) if isinstance(bits, Mapping) else bits


def _films(subject: Subject) -> list[ShownFilm]:
    """Samples being drawn and test images being reconstructed."""
    model, noise = subject.model, subject.generator
    factor = max(1, round(84 / max(model.image_shape[1:])))
    x = subject.x[: FILM_IMAGES // 2]
    return [
        shown_film(scenes.generation_film(model, FILM_IMAGES, noise(), factor)),
        shown_film(scenes.explanation_film(model, x, noise(), factor), columns=2),
    ]


def _commands(run: Run) -> list[str]:
    """Commands that reproduce this run, its numbers and its figures."""
    path = run.name if run.path.is_absolute() else str(run.path)
    quoted = shlex.quote(path)
    return [
        f"limner train --config {shlex.quote(path + '/config.json')} --out NEW",
        f"limner evaluate {quoted}",
        f"limner figures {quoted}",
        f"limner animate {quoted}",
        f"limner report {quoted}",
    ]


def rows_of(runs: Sequence[Run], labels: Sequence[str]) -> list[dict[str, Any]]:
    """A row of the comparison for each run that has results.

    With paired differences to the best if all were evaluated on the same images.
    """
    named = dict(zip(labels, runs, strict=True))
    evaluated = {name: run for name, run in named.items() if run.results() is not None}
    try:
        return compare_runs({name: [run] for name, run in evaluated.items()}) if evaluated else []
    except InputError:
        return [{**(run.results() or {}), "name": name} for name, run in evaluated.items()]


def table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Rows of a comparison as text, lowest -ELBO first."""

    def cost(row: Mapping[str, Any]) -> float:
        mean = mean_of(row.get("elbo"))
        return float("inf") if mean is None else -mean

    alike = len(rows) == 1 or any(row.get("difference_to_best") for row in rows)
    best, mixed = min(rows, key=cost, default=None) if alike else None, " or " in samples_in(rows)
    return [_as_text(row, row is best, mixed) for row in sorted(rows, key=cost)]


def samples_in(rows: Sequence[Mapping[str, Any]]) -> str:
    """The number of importance samples of the rows, or the numbers if they differ."""
    bounds = [row.get("iw_bound") for row in rows]
    counts = {bound["num_samples"] for bound in bounds if bound and "num_samples" in bound}
    return " or ".join(map(str, sorted(counts)))


def _as_text(row: Mapping[str, Any], best: bool, mixed: bool) -> dict[str, str]:
    """The cells of a row; if rows are `mixed`, with K beside the importance-weighted bound."""
    samples = f", K = {samples_in([row])}" if mixed and row.get("iw_bound") else ""
    difference = row.get("difference_to_best")
    worse = None if difference is None else {**difference, "mean": abs(difference["mean"])}
    return {
        "name": row["name"],
        "elbo": with_error(row.get("elbo"), -1),
        "difference": "best" if best else with_error(worse),
        "reconstruction": with_error(row.get("reconstruction"), -1),
        "kl": with_error(row.get("kl")),
        "iw_bound": with_error(row.get("iw_bound"), -1) + samples,
        "bits_per_dim": with_error(mean_of(_bits(row)), digits=4),
        "parameters": millions(row.get("parameters")),
        "time": duration(row.get("training_seconds")),
        "speed": number(row.get("images_per_second")),
    }


@torch.no_grad()
def compared(labels: Sequence[str], subjects: Sequence[Subject]) -> list[ShownPicture]:
    """Figures that show several runs side by side."""
    metrics = {label: subject.metrics for label, subject in zip(labels, subjects, strict=True)}
    metrics = {name: entries for name, entries in metrics.items() if entries}
    pictures = []
    if metrics:
        figure = curves.compared_curves(metrics)
        caption = "The bound on validation images by epoch and by time spent training."
        alt = f"Curves of the validation −ELBO of {', '.join(metrics)}."
        pictures.append(Picture("compared", "How they learned", caption, alt, figure))
    if len({subject.model.image_shape[1:] for subject in subjects}) == 1:
        rows = [
            (name, to_rgb(subject.model.sample(12, subject.generator())))
            for name, subject in zip(labels, subjects, strict=True)
        ]
        caption = "Mean images from each model's prior, not chosen."
        alt = f"One row of samples for each of {', '.join(labels)}."
        figure = grids.labelled_rows(rows)
        pictures.append(Picture("compared-samples", "What they draw", caption, alt, figure))
    return [shown(picture) for picture in pictures]


def labels_of(runs: Sequence[Run], rows: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """A different label for each run: that of its row if it has one, otherwise its folder."""
    in_rows = {name: row["name"] for row in rows for name in row.get("runs", ())}
    labels = [in_rows.get(run.path.name, run.name) for run in runs]
    return [
        label if labels.count(label) == 1 else f"{label} ({run.name}, {index})"
        for index, (label, run) in enumerate(zip(labels, runs, strict=True), 1)
    ]


def ours_and_published(
    runs: Sequence[Run], labels: Sequence[str], datasets: Sequence[Dataset]
) -> dict[str, list[Published]]:
    """The bounds of this page and published ones, each with what it was measured on."""
    ours, published = [], []
    for run, images, label in zip(runs, datasets, labels, strict=True):
        results = run.results()
        if results is None:
            continue
        dataset, count = results["dataset"], number(len(images.train.levels))
        about = f"{dataset}, {count} training images" if run.shows_its_own else dataset
        for key, bound in (("elbo", "ELBO"), ("iw_bound", "IW")):
            samples = results[key].get("num_samples")
            kind = f"{bound}, K = {samples}" if samples else bound
            nats = with_error(results[key], -1)
            ours.append(Published(about, label, nats, kind, results["binarization"], "this page"))
        published += [entry for entry in published_for(dataset) if entry not in published]
    return {"ours": ours, "published": published}
