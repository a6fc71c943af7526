"""What the page says about one run, and about several beside each other."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from limner.data import Dataset
from limner.figures import curves, gallery, grids, scenes
from limner.figures.gallery import Picture
from limner.figures.subject import Subject
from limner.figures.tiles import to_rgb
from limner.models import LatentVariableModel
from limner.report.published import Published, published_for
from limner.report.shown import ShownFilm, ShownPicture, shown, shown_film
from limner.report.wording import duration, mean_of, millions, number, plain, with_error
from limner.training.runs import Run

MAX_IMAGES = 2000
"""Test images that the page's statistics are taken over."""
FILM_IMAGES = 16


@dataclass(frozen=True)
class Section:
    """All that the page shows of one run."""

    anchor: str
    name: str
    label: str
    facts: list[tuple[str, str]]
    numbers: list[tuple[str, str]]
    films: list[ShownFilm]
    pictures: list[ShownPicture]
    config: str
    versions: list[tuple[str, str]]
    commands: list[str]


def section(index: int, run: Run, subject: Subject) -> Section:
    """The section of the run number `index`."""
    results = run.results() or {}
    return Section(
        anchor=f"run-{index}",
        name=run.name,
        label=results.get("label") or run.name,
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
        ("images", f"{dataset.name}, {' × '.join(map(str, dataset.image_shape))}"),
        ("binarization", dataset.binarization),
        ("observation", config.model.observation),
        ("training images", number(len(dataset.train.levels))),
        ("epochs", plain(last.get("epoch", results.get("epochs")))),
        ("batch", plain(config.batch_size)),
        ("seed", plain(config.seed)),
        ("training time", duration(results.get("training_seconds", last.get("seconds")))),
        (
            "images a second",
            number(results.get("images_per_second", last.get("images_per_second"))),
        ),
    ]
    skipped = sum(entry.get("skipped_steps", 0) for entry in metrics)
    return facts + ([("steps skipped", str(skipped))] if skipped else [])


def _numbers(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Results with their errors; nothing where the run was not evaluated."""
    if not results:
        return []
    samples = (results.get("iw_bound") or {}).get("num_samples", "K")
    active = results.get("active_units")
    numbers = [
        ("−ELBO", with_error(results.get("elbo"), -1)),
        ("−log p(x | z)", with_error(results.get("reconstruction"), -1)),
        ("KL", with_error(results.get("kl"))),
        (f"−L, K = {samples}", with_error(results.get("iw_bound"), -1)),
        ("bits per dimension", with_error(results.get("bits_per_dim"), digits=4)),
        (
            "measured on",
            f"{number(results.get('num_images'))} {results.get('split', 'test')} images",
        ),
    ]
    if active is not None:
        total = sum(active) if isinstance(active, list) else active
        numbers.insert(-1, ("active units", plain(total)))
    return numbers


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
    """What makes this run, its numbers and its figures again."""
    path = run.name if run.path.is_absolute() else str(run.path)
    quoted = shlex.quote(path)
    return [
        f"limner train --config {shlex.quote(path + '/config.json')} --out NEW",
        f"limner evaluate {quoted}",
        f"limner figures {quoted}",
        f"limner animate {quoted}",
    ]


def rows_of(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row of the comparison for each run that has results."""
    rows = []
    for run in runs:
        results = run.results()
        if results is not None:
            name = results.get("label") or run.name
            rows.append({**results, "name": name, "kind": run.config.model.kind})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Rows of a comparison as text, lowest cost first where there is one."""

    def cost(row: Mapping[str, Any]) -> float:
        mean = mean_of(row.get("elbo"))
        return float("inf") if mean is None else -mean

    best = min(rows, key=cost, default=None)
    return [_as_text(row, row is best) for row in sorted(rows, key=cost)]


def samples_in(rows: Sequence[Mapping[str, Any]]) -> str:
    """The number of importance samples behind the rows, or the numbers."""
    bounds = [row.get("iw_bound") for row in rows]
    counts = {bound["num_samples"] for bound in bounds if bound and "num_samples" in bound}
    return ", ".join(map(str, sorted(counts)))


def _as_text(row: Mapping[str, Any], best: bool) -> dict[str, str]:
    difference = row.get("difference_to_best")
    worse = None if difference is None else {**difference, "mean": abs(difference["mean"])}
    return {
        "name": row["name"],
        "elbo": with_error(row.get("elbo"), -1),
        "difference": "best" if best else with_error(worse),
        "reconstruction": with_error(row.get("reconstruction"), -1),
        "kl": with_error(row.get("kl")),
        "iw_bound": with_error(row.get("iw_bound"), -1),
        "bits_per_dim": with_error(mean_of(row.get("bits_per_dim")), digits=4),
        "parameters": millions(row.get("parameters")),
        "time": duration(row.get("training_seconds")),
        "speed": number(row.get("images_per_second")),
    }


@torch.no_grad()
def compared(runs: Sequence[Run], subjects: Sequence[Subject]) -> list[ShownPicture]:
    """Figures that hold several runs beside each other."""
    names = _labels(runs)
    metrics = {name: subject.metrics for name, subject in zip(names, subjects, strict=True)}
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
            for name, subject in zip(names, subjects, strict=True)
        ]
        caption = "Mean images from each model's prior, not chosen."
        alt = f"A row of samples each of {', '.join(names)}."
        figure = grids.labelled_rows(rows)
        pictures.append(Picture("compared-samples", "What they draw", caption, alt, figure))
    return [shown(picture) for picture in pictures]


def _labels(runs: Sequence[Run]) -> list[str]:
    """A label for each run, all different."""
    labels = [(run.results() or {}).get("label") or run.name for run in runs]
    return [
        label if labels.count(label) == 1 else f"{label} ({run.name}, {index})"
        for index, (label, run) in enumerate(zip(labels, runs, strict=True), 1)
    ]


def ours_and_published(runs: Sequence[Run], datasets: Sequence[Dataset]) -> dict[str, list]:
    """This page's bounds and published ones, each saying what it is about."""
    ours, published = [], []
    for run, dataset, label in zip(runs, datasets, _labels(runs), strict=True):
        results = run.results() or {}
        about = f"{dataset.name}, {number(len(dataset.train.levels))} training images"
        for key, bound in (("elbo", "ELBO"), ("iw_bound", "importance-weighted")):
            if results.get(key) is None:
                continue
            samples = results[key].get("num_samples")
            kind = f"{bound}, K = {samples}" if samples else bound
            nats = with_error(results[key], -1)
            ours.append(Published(about, label, nats, kind, dataset.binarization, "this page"))
        published += [entry for entry in published_for(dataset.name) if entry not in published]
    return {"ours": ours, "published": published}
