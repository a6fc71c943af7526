"""Settings that a command leaves open, chosen by the images.

The observation follows the pixels, and the budget, the warm-up and the validations follow the
number of steps in an epoch: a small set of images is trained for as many steps as a large one.
"""

import math
from collections.abc import Collection

from limner.config import EPOCHS, RunConfig
from limner.data import Dataset, names, natural_observation, pixel_kind, suited
from limner.progress import warn

STEPS = 2_000
"""Training steps, at least."""
STEPS_BETWEEN_VALIDATIONS = 32
"""At least; the averaged weights, which are validated, change as often."""
VALIDATIONS = 20
"""At least, if there are as many epochs."""
WARMUP_SHARE = 4
"""The warm-up of the learning rate is at most the budget divided by this."""


def adapted(config: RunConfig, dataset: Dataset, given: Collection[str]) -> RunConfig:
    """`config` with the settings that are not `given`, by dotted name, chosen for `dataset`.

    The config of an earlier run ("config" in `given`) that names its observation stays as it is.

    Prints a sentence about what was chosen, except for the usual choice on a dataset by name.
    """
    if {"config", "model.observation"} <= set(given):
        return config
    own = config.data.name not in names()
    chosen, dataset = _observing(config, dataset, given, own)
    if not {"epochs", "minutes"} & set(given):
        chosen = chosen.with_(epochs=default_epochs(config, dataset))
    chosen = _paced(chosen, dataset, given)
    pixel_kind(dataset, chosen.model.observation)
    chose = "model.observation" not in given or not {"epochs", "minutes"} & set(given)
    if (own and chose) or chosen.model.observation != config.model.observation:
        warn(_sentence(chosen, dataset, given))
    return chosen


def default_epochs(config: RunConfig, dataset: Dataset) -> int:
    """`EPOCHS`, or as many as make `STEPS` steps."""
    return max(EPOCHS, math.ceil(STEPS / _steps_per_epoch(config, dataset)))


def _observing(
    config: RunConfig, dataset: Dataset, given: Collection[str], own: bool
) -> tuple[RunConfig, Dataset]:
    """The config with an observation, and for your own images with their binarization.

    A model that starts from a trained one keeps the observation of its config.
    """
    if "model.observation" not in given:
        if config.start_from is None:
            observation = natural_observation(dataset)
            config = config.with_(model=config.model.with_(observation=observation))
        dataset = suited(dataset, config.model.observation, config.data.binarization)
    if own:
        config = config.with_(data=config.data.with_(binarization=dataset.binarization))
    return config, dataset


def _paced(config: RunConfig, dataset: Dataset, given: Collection[str]) -> RunConfig:
    """The config with validations and a warm-up that suit its number of steps."""
    steps, epochs = _steps_per_epoch(config, dataset), config.epochs
    if "validate_every" not in given:
        apart = math.ceil(STEPS_BETWEEN_VALIDATIONS / steps)
        most = apart if epochs is None else max(1, epochs // VALIDATIONS)
        config = config.with_(validate_every=min(apart, most))
    if "optimizer.warmup_steps" not in given and epochs is not None:
        optimizer = config.optimizer
        warmup = min(optimizer.warmup_steps, epochs * steps // WARMUP_SHARE)
        config = config.with_(optimizer=optimizer.with_(warmup_steps=warmup))
    return config


def _steps_per_epoch(config: RunConfig, dataset: Dataset) -> int:
    return len(dataset.train) // min(config.batch_size, len(dataset.train))


def _sentence(config: RunConfig, dataset: Dataset, given: Collection[str]) -> str:
    observation = config.model.observation
    pixels = "in colour" if dataset.image_shape[0] == 3 else "in grey levels"
    if dataset.is_binary:
        pixels = "black and white"
    elif dataset.binarization != "none":
        pixels = f"binarized ({dataset.binarization})"
    why = "" if "model.observation" in given else " (--model.observation)"
    sentence = f"{dataset.name} is {pixels}: the observation is {observation}{why}"
    if not {"epochs", "minutes"} & set(given) and config.epochs is not None:
        steps = config.epochs * _steps_per_epoch(config, dataset)
        sentence += (
            f"; {len(dataset.train):,} training images are trained for {config.epochs:,} epochs, "
            f"{steps:,} steps (--epochs)"
        )
    return sentence + "."
