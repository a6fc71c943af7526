"""What a training starts from: weights drawn from the seed, or those of a trained model."""

from collections.abc import Iterator

import torch

from limner.config import RunConfig
from limner.data import Dataset, frozen
from limner.errors import InputError
from limner.models import LatentVariableModel, build
from limner.training.runs import Run, form


def initial_model(
    config: RunConfig, dataset: Dataset, start_from: str | None = None
) -> LatentVariableModel:
    """The model of `config`, drawn from its seed, or with the best weights of `start_from`.

    Raises:
        InputError: there are no such weights, or they have other shapes than the model's.
    """
    torch.manual_seed(config.seed)
    model = build(config.model, dataset.image_shape)
    model.init_from_images(frozen(dataset, "train", config.model.observation))
    if start_from is not None:
        weights = Run.open(start_from).model().state_dict()
        if form(weights) != form(model.state_dict()):
            raise InputError(
                f"The weights of {start_from} do not fit this {config.model.kind}; start from a "
                "model of the same widths for images of the same shape."
            )
        model.load_state_dict(weights)
    return model


def ancestry(run: Run) -> Iterator[Run]:
    """The run, the one that it started from, and so on, as far as they are still there."""
    passed = set()
    while run.path not in passed:
        passed.add(run.path)
        yield run
        if run.config.start_from is None:
            return
        try:
            run = Run.open(run.config.start_from)
        except InputError:
            return
