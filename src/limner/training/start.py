"""The start of a training: weights drawn from the seed, or those of a trained model."""

import math
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from limner.config import RunConfig
from limner.data import DataConfig, Dataset, evenly, frozen, seen_in_training
from limner.data import names as datasets
from limner.data.mapped import forget
from limner.errors import InputError
from limner.models import LatentVariableModel, ModelConfig, build
from limner.training.noise import seeded
from limner.training.runs import Run

START_BYTES = 2**28
"""Bytes of training images from which a model starts; of more images, evenly spaced ones."""


def initial_model(
    config: RunConfig, dataset: Dataset, start_from: str | None = None
) -> LatentVariableModel:
    """The model of `config`, drawn from its seed, or with the best weights of `start_from`.

    Raises:
        InputError: there are no such weights, or they are those of another model.
    """
    with seeded(config.seed):
        model = build(config.model, dataset.image_shape)
    model.init_from_images(start_images(model, dataset))
    forget(dataset.train.levels)
    if start_from is not None:
        start = Run.open(start_from)
        weights = start.model()
        if differing := _differing(start.config.model, config.model):
            flag = differing[0].replace("_", "-")
            raise InputError(
                f"The weights of {start_from} do not fit: --model.{flag} differs; start "
                "from a model like this one, or give this one its settings with --config."
            )
        if weights.image_shape != model.image_shape:
            raise InputError(
                f"The weights of {start_from} are for images of {weights.image_shape} (channels, "
                f"height, width), and {dataset.name} has {model.image_shape}."
            )
        model.load_state_dict(weights.state_dict())
    return model


def start_images(model: LatentVariableModel, dataset: Dataset) -> Tensor:
    """Training images whose mean a new model starts from, as the model sees them."""
    most = max(1, START_BYTES // (4 * math.prod(dataset.image_shape)))
    shown = replace(dataset, train=evenly(dataset.train, most))
    return frozen(shown, "train", model.config.observation)


def _differing(one: ModelConfig, other: ModelConfig) -> list[str]:
    """The settings of models that differ, the kind of model first."""
    a, b = (each.model_dump(exclude=set(one.free & other.free)) for each in (one, other))
    names = ["kind", *sorted({*a, *b} - {"kind"})]
    return [name for name in names if a.get(name) != b.get(name)]


def ancestry(run: Run) -> Iterator[Run]:
    """The run, the run that it started from, and so on, while these exist."""
    passed = set()
    while run.path not in passed:
        passed.add(run.path)
        yield run
        if run.config.start_from is None:
            return
        try:
            run = Run.open(run.config.start_from, online=False)
        except InputError:
            return


def seen_before(run: Run, shown: DataConfig) -> str | None:
    """A note for numbers on `shown` if the run was trained on some of its images."""
    for one in ancestry(run):
        trained = one.config.data
        if note := seen_in_training(trained.name, shown.name):
            return note
        split_alike = shown.name in datasets() or trained.draw_seed == shown.draw_seed
        if trained.name == shown.name and not split_alike:
            return (
                f"{one.name}, which this model comes from, was trained on a split of {shown.name} "
                f"with draw seed {trained.draw_seed}: some of these images may have been among its "
                f"training images; train with --data.draw-seed {trained.draw_seed}."
            )
    return None
