"""The config of a training from what a Python caller gives: a model, config, recipe or kind."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from limner.config import RunConfig
from limner.data import DataConfig, Dataset
from limner.errors import InputError, unknown
from limner.models import LatentVariableModel, ModelConfig, config_from, kinds
from limner.recipes import RECIPES
from limner.settings import Settings, dotted
from limner.training.defaults import EPOCHS, adapted

USUAL = {"device": "auto", "seed": 0}
"""Defaults of `fit`, which do not change a run config or a recipe."""


HIDDEN = {"schema_version", "model", "data"}
"""Fields of a run config that are no settings of `fit`."""


class Asked(NamedTuple):
    """A config, and the dotted names of its settings that were chosen on purpose."""

    config: RunConfig
    given: frozenset[str]


def asked(
    model: LatentVariableModel | ModelConfig | RunConfig | str,
    dataset: Dataset,
    changes: Mapping[str, Any],
) -> Asked:
    """The config of `model` with `changes`; settings that nobody chose are chosen for `dataset`.

    A change of None leaves a setting as it is; a mapping changes settings inside one.
    """
    for name in changes.keys() - RunConfig.model_fields.keys():
        advice = 'those of the optimizer are given as optimizer={"learning_rate": 1e-3}'
        raise unknown("setting", name, sorted(set(RunConfig.model_fields) - HIDDEN), advice)
    config, given = _base(model)
    is_kind = isinstance(model, str) and model not in RECIPES
    whole = {"kind"} if is_kind else dotted(config.model.model_dump())
    own = {f"model.{name}" for name in whole}
    changes = {
        key: value
        for key, value in changes.items()
        if value is not None and value != USUAL.get(key)
    }
    for key, value in changes.items():
        if isinstance(value, os.PathLike):
            changes[key] = os.fspath(value)
    given |= set(changes)
    if "minutes" in given and "epochs" not in given:
        config = config.with_(epochs=None, minutes=changes["minutes"])
        given.add("epochs")  # also in a run that is resumed
    for key, value in list(changes.items()):
        if isinstance(value, Mapping) and isinstance(getattr(config, key, None), Settings):
            given |= {f"{key}.{name}" for name in value}
            changes[key] = getattr(config, key).with_(**value)
    config = config.with_(data=dataset.source or _named(dataset), **changes)
    unchosen = {"model.observation"} - given
    return Asked(adapted(config, dataset, given), frozenset(given | own - unchosen))


def _base(
    model: LatentVariableModel | ModelConfig | RunConfig | str,
) -> tuple[RunConfig, set[str]]:
    """A run config, and the dotted names of the settings in it that were chosen on purpose."""
    if isinstance(model, RunConfig):
        return model, set(dotted(model.model_dump()))
    if isinstance(model, str):
        if model in RECIPES:
            config = RECIPES[model].config
            return config, set(dotted(config.model_dump())) - {"model.observation"}
        if model not in kinds():
            raise unknown("model or recipe", model, dict.fromkeys([*kinds(), *RECIPES]))
        model = config_from({"kind": model})
    if isinstance(model, LatentVariableModel):
        config, given = model.config, {"model.observation"}
    elif isinstance(model, ModelConfig):
        config = model
        given = {"model.observation"} & {f"model.{name}" for name in model.model_fields_set}
    else:
        raise InputError(
            "fit takes a model, a config, or the name of a recipe or model; got "
            f"{f'the class {model.__name__}' if isinstance(model, type) else type(model).__name__}."
        )
    return RunConfig(model=config, epochs=EPOCHS), given


def _named(dataset: Dataset) -> DataConfig:
    """What is known of images that were given in memory."""
    return DataConfig(
        name=dataset.name,
        binarization=dataset.binarization,
        draw_seed=dataset.draw_seed,
        augment=dataset.augment,
    )
