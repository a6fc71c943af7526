"""The content of the page about one run."""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from limner.data import Dataset
from limner.data.config import in_words
from limner.figures import gallery, scenes
from limner.figures.depth import Profile
from limner.figures.subject import Subject
from limner.models import LatentVariableModel
from limner.report.published import link_of
from limner.report.shown import ShownFilm, ShownPicture, shown, shown_film
from limner.report.table import bits_of
from limner.report.wording import duration, number, plain, with_error
from limner.training.runs import Run

FILM_IMAGES = 16
SIDE = 84
"""The side of an image of a film on the page, in pixels, unless it is larger."""
Entries = list[tuple[str | Markup, str | Markup]]


@dataclass(frozen=True)
class Section:
    """Everything the page shows about one run."""

    anchor: str
    label: str
    facts: Entries
    numbers: Entries
    samples: ShownFilm
    explained: ShownFilm
    """Test images step by step."""
    pictures: list[ShownPicture]
    config: str
    versions: Entries
    commands: list[str]


def section(
    run: Run, label: str, anchor: str, subject: Subject, profile: Profile, tick: Callable[[], None]
) -> Section:
    """The section of one run; calls `tick` after each kind of figure."""
    results = run.results() or {}
    pictures = []
    for picture in gallery.candidates(subject, strips=False):
        if picture is not None:
            pictures.append(shown(picture))
        tick()
    samples, explained = _films(anchor, subject, profile)
    tick()
    return Section(
        anchor=anchor,
        label=label,
        facts=_facts(run, results, subject.model, subject.dataset),
        numbers=numbers(results),
        samples=samples,
        explained=explained,
        pictures=pictures,
        config=json.dumps(run.config.model_dump(mode="json"), indent=2, ensure_ascii=False),
        versions=[(name, str(version)) for name, version in results.get("versions", {}).items()],
        commands=_commands(run),
    )


def anchors(labels: Sequence[str]) -> list[str]:
    """An id for each label, for links."""
    slugs = [re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") for label in labels]
    return [
        f"model-{slug}" if slug and slugs.count(slug) == 1 else f"model-{slug}-{index}"
        for index, slug in enumerate(slugs, 1)
    ]


def labels_of(runs: Sequence[Run], rows: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """A different label for each run: that of its row if it has one, otherwise its folder."""
    in_rows = {name: row["name"] for row in rows for name in row.get("runs", ())}
    labels = [in_rows.get(run.path.name, run.name) for run in runs]
    return [
        label if labels.count(label) == 1 else f"{label} ({run.name}, {index})"
        for index, (label, run) in enumerate(zip(labels, runs, strict=True), 1)
    ]


def _facts(
    run: Run, results: Mapping[str, Any], model: LatentVariableModel, dataset: Dataset
) -> Entries:
    config, metrics = run.config, run.metrics()
    last = metrics[-1] if metrics else {}
    shape = "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}".join(map(str, dataset.image_shape))
    facts: Entries = [
        ("model", link_of(config.model.kind)),
        ("parameters", number(results.get("parameters", model.num_parameters))),
        ("latent groups", str(model.num_groups)),
        ("images shown", f"{dataset.name}, {shape}"),
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
        ("images/s", number(results.get("images_per_second", last.get("images_per_second")))),
    ]
    skipped = last.get("skipped_steps", 0)
    return facts + ([("steps skipped", str(skipped))] if skipped else [])


def numbers(results: Mapping[str, Any]) -> Entries:
    """Results with their errors; empty if the run was not evaluated."""
    if not results:
        return []
    samples = (results.get("iw_bound") or {}).get("num_samples", "K")
    found: Entries = [
        ("−ELBO", with_error(results.get("elbo"), -1)),
        ("reconstruction", with_error(results.get("reconstruction"), -1)),
        ("KL", with_error(results.get("kl"))),
        (Markup("−L<sub>{}</sub>").format(samples), with_error(results.get("iw_bound"), -1)),
        ("bits per dimension", with_error(bits_of(results), digits=4)),
    ]
    if coded := results.get("coded"):
        images = f"{number(coded['num_images'])} images, whose −ELBO is {coded['minus_elbo']:.2f}"
        found.append(("compressed", f"{coded['nats']:.2f}, the file of the first {images}"))
    active = results.get("active_units")
    if active and None not in active:
        units = results.get("latent_units")
        found.append(("active units", f"{sum(active)}{f' of {sum(units)}' if units else ''}"))
    images = f"{number(results.get('num_images'))} {results.get('split', 'test')} images"
    measured = f"{images} of {results['dataset']}, {in_words(results['binarization'])}"
    return [*found, ("measured on", measured)]


def _films(anchor: str, subject: Subject, profile: Profile) -> tuple[ShownFilm, ShownFilm]:
    """Samples being drawn, and test images being reconstructed beside their nats."""
    model, noise = subject.model, subject.generator
    factor = max(1, round(SIDE / max(model.image_shape[1:])))
    # Lines of windows are finer than pixels of the image; other films are magnified by the page.
    drawn, zoom = (factor, 1) if subject.windows is not None else (1, factor)
    samples = scenes.generation_film(model, FILM_IMAGES, noise(), drawn)
    explained = scenes.explanation_film(model, subject.x[: FILM_IMAGES // 2], noise(), drawn)
    return (
        shown_film(samples, f"{anchor}-samples-film", zoom),
        shown_film(explained, f"{anchor}-film", zoom, columns=2, profile=profile),
    )


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
