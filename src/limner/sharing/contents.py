"""The files that are published of a run or a model, and nothing private in them.

model.safetensors   the best weights, averaged if the training averages
config.json         of a run, or model.json of a model without one
results.json        the last evaluation of a run, if there was one
samples.png         images from the prior
README.md           the model card

A folder, on this machine, of images, of weights that training started from or of a run is published
without its place: its name remains.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from limner.config import RunConfig
from limner.data import names as datasets
from limner.errors import InputError
from limner.hub import PREFIX
from limner.models import LatentVariableModel
from limner.models.saved import document_of, save
from limner.pictures import columns_for, magnify, tile, to_rgb
from limner.storage import WEIGHTS, load_tensors, save_tensors, write_atomically
from limner.training import named
from limner.training.runs import Run

SAMPLES = 64
SAMPLES_SIDE = 640
"""Pixels of the longer side of the picture with samples, about."""
RESULTS = frozenset(
    {
        *("elbo", "reconstruction", "kl", "iw_bound", "bits_per_dim", "kl_per_group"),
        *("active_units", "latent_units", "group_names", "elbo_per_step", "model", "dataset"),
        *("binarization", "draw_seed", "training_seed", "training_seconds", "epochs"),
        *("images_per_second", "trained_with", "split", "checkpoint", "weights"),
        *("validation_elbo", "observation", "image_shape", "num_images", "seed", "parameters"),
        *("evaluation_seconds", "device", "versions", "evaluated_with"),
    }
)
"""What is published of results.json, beside its note. The rest may name files of this machine."""
_PATH = re.compile(r"(~|\b[A-Za-z]:)?[\\/][^\s,;]*[^\s,;:.]")
"""A path in a sentence."""


class Contents(NamedTuple):
    """What a model card is written from."""

    model: LatentVariableModel
    config: Mapping[str, Any]
    """The content of config.json or model.json."""
    run: RunConfig | None = None
    """The published config of the run."""
    results: Mapping[str, Any] | None = None
    makers: Sequence[Mapping[str, Any]] = ()
    """Code and machines that trained it."""
    epochs: float | None = None
    seconds: float | None = None
    started: str | None = None
    """The name of the weights that training started from, if they are not published."""


def write_run(run: Run, folder: Path) -> Contents:
    """Write what is published of a run, except its card.

    Raises:
        InputError: not trained, damaged, or trained further since its evaluation.
    """
    model = run.model()
    path = next(path for path in run.weights("best") if path.is_file())
    tensors, document = load_tensors(path)
    results, config = _results(run, document), published(run.config)
    kind = "ema." if any(name.startswith("ema.") for name in tensors) else "raw."
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith(kind)}
    values = config.model_dump(mode="json")
    about = {key: document[key] for key in ("epoch", "validation_elbo") if key in document}
    about |= {"image_shape": list(model.image_shape), "config": values}
    save_tensors(folder / WEIGHTS, kept, about)
    write_atomically(folder / "config.json", config.to_json())
    if results is not None:
        write_atomically(folder / "results.json", json.dumps(results, indent=2) + "\n")
    _write_samples(model, folder)
    last = (run.metrics() or [results or {}])[-1]
    started = run.config.start_from if config.start_from is None else None
    return Contents(
        model,
        values,
        config,
        results,
        [maker.model_dump() for maker in run.made()] or (results or {}).get("trained_with", []),
        last.get("epoch", last.get("epochs")),
        last.get("seconds", last.get("training_seconds")),
        None if started is None else last_part(started),
    )


def write_model(model: LatentVariableModel, folder: Path) -> Contents:
    """Write what is published of a model, except its card.

    Raises:
        InputError: it cannot be saved.
    """
    save(model, folder)
    _write_samples(model, folder)
    return Contents(model, document_of(model))


def published(config: RunConfig) -> RunConfig:
    """The config of a run without places on this machine."""
    name = _public_name(config.data.name)
    start = config.start_from
    if start is not None and not start.startswith(PREFIX) and start not in named.names():
        start = None
    return config.with_(data=config.data.with_(root=None, name=name), start_from=start)


def last_part(path: str) -> str:
    """The name of a file or folder without its place, on any system."""
    parts = [part for part in re.split(r"[\\/]+", path) if part.strip(". ")]
    return parts[-1] if parts else "images"


def _results(run: Run, document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The published results of a run, of the weights that `document` describes."""
    results = run.results()
    if results is None:
        return None
    bound = results.get("validation_elbo")
    if bound is not None and bound != document.get("validation_elbo"):
        raise InputError(
            f"{run.path} was trained further since its evaluation; run limner evaluate {run.path} "
            "again, or remove its results.json."
        )
    kept = {key: value for key, value in results.items() if key in RESULTS}
    kept["dataset"] = _public_name(results["dataset"])
    if isinstance(note := results.get("note"), str):  # such as: some images were trained on
        note = note.replace(results["dataset"], kept["dataset"])
        kept["note"] = _PATH.sub(lambda found: last_part(found.group()), note)
    return kept


def _public_name(dataset: str) -> str:
    """The name of a dataset, without its place if it is a folder or file."""
    return dataset if dataset.startswith(PREFIX) or dataset in datasets() else last_part(dataset)


@torch.no_grad()
def _write_samples(model: LatentVariableModel, folder: Path) -> None:
    """Mean images from the prior with seed 0; the mode of the model stays as it is."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        images = to_rgb(model.sample(SAMPLES, torch.Generator(device).manual_seed(0)))
    finally:
        model.train(training)
    columns = columns_for(SAMPLES)
    factor = max(1, round(SAMPLES_SIDE / columns / max(images.shape[1:3])))
    Image.fromarray(tile(magnify(images, factor), columns, factor)).save(folder / "samples.png")
