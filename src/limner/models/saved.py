"""A saved model: a folder with `model.safetensors`, the weights, and `model.json`, its config.

The weights' file holds the same document under its checksum, so that it alone decides what the
model is.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from torch import Tensor

import limner
from limner.errors import InputError
from limner.models.registry import kinds, model_class
from limner.settings import read_json
from limner.storage import (
    TYPES,
    WEIGHTS,
    load_tensors,
    read_document,
    save_tensors,
    unwritable,
    write_atomically,
)

if TYPE_CHECKING:
    from limner.models.base import LatentVariableModel

CONFIG = "model.json"
SCHEMA_VERSION = 1


class SavedModel(BaseModel):
    """The content of model.json."""

    model_config = ConfigDict(strict=True, frozen=True)

    schema_version: int
    limner: str
    model: dict[str, Any]
    image_shape: list[PositiveInt] = Field(min_length=3, max_length=3)


def save(model: "LatentVariableModel", folder: Path) -> None:
    """Write a model to a folder of its own; an earlier model there is replaced.

    A crash leaves the earlier model or this one.

    Raises:
        InputError: the folder holds other files or cannot be written, or the model has weights that
            are not finite, or state that is no tensor.
    """
    state = _checked(model)
    document = document_of(model)
    _check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _known(folder) != document:  # so that it never describes other weights
            (folder / CONFIG).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    save_tensors(folder / WEIGHTS, state, document)
    write_atomically(folder / CONFIG, json.dumps(document, indent=2) + "\n")


def document_of(model: "LatentVariableModel") -> dict[str, Any]:
    """What describes a model beside its weights."""
    return {
        "schema_version": SCHEMA_VERSION,
        "limner": limner.__version__,
        "model": model.config.model_dump(mode="json"),
        "image_shape": list(model.image_shape),
    }


def is_saved(folder: Path) -> bool:
    """Whether a folder is a saved model, not a run; its files may be damaged."""
    if (folder / "config.json").exists():
        return False
    if (folder / CONFIG).is_file():
        return True
    with contextlib.suppress(InputError):  # saving was interrupted before the config was written
        return "model" in read_document(folder / WEIGHTS)
    return False


def read(folder: Path) -> tuple[dict[str, Tensor], SavedModel]:
    """The weights and the description of a saved model.

    Raises:
        InputError: a file is missing, damaged, or of another model or a later version.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{folder} holds no {WEIGHTS}; save the model again.")
    tensors, document = load_tensors(path)
    if (folder / CONFIG).is_file() and read_json(folder / CONFIG) != document:
        raise InputError(f"{folder / CONFIG} does not describe {path}; save the model again.")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema version {document.get('schema_version')!r}; this Limner reads "
            f"{SCHEMA_VERSION}."
        )
    try:
        return tensors, SavedModel.model_validate(document)
    except ValidationError:
        raise InputError(f"{path} does not describe a model; save the model again.") from None


def _checked(model: "LatentVariableModel") -> dict[str, Tensor]:
    """The state of a model, if a file can hold it, and loading makes the same model of it."""
    kind, state = model.config.kind, model.state_dict()
    if kind in kinds() and model_class(kind) is not type(model):
        raise InputError(
            f"{type(model).__name__} is not the registered model of the kind {kind!r}, which "
            "would be loaded; give it a config of its own and call limner.register."
        )
    types = {parameter.dtype for parameter in model.parameters()}
    if types not in ({torch.float32}, {torch.float64}):
        raise InputError("Models are saved in float32 or float64; call model.float() first.")
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.dtype not in TYPES:
            raise InputError(
                f"{name} of the model cannot be saved; only tensors of the usual types can."
            )
        if value.is_meta:
            raise InputError(f"{name} of the model has no values; move it from the meta device.")
    if bad := not_finite(dict(model.named_parameters())):
        raise InputError(
            f"{bad} of the model has values that are NaN or infinite; train it again with a lower "
            "learning rate, and save that."
        )
    return state


def not_finite(
    tensors: Mapping[str, Tensor], usual: Mapping[str, Tensor] | None = None
) -> str | None:
    """The first tensor with NaN or infinite values that `usual` does not have there, or None."""
    for name, tensor in tensors.items():
        bad = ~torch.isfinite(tensor)
        if usual is not None and bad.any():  # a mask of a new model may hold -inf
            same = torch.eq(tensor, usual[name].to(tensor)) & ~tensor.isnan()
            bad &= ~same
        if bad.any():
            return name
    return None


def _check_free(folder: Path) -> None:
    """Refuse a place that is no folder, or holds more than a saved model."""
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; choose another folder for the model.")
        held = list(folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise unwritable(folder, error) from None
    others = sorted(
        path.name
        for path in held
        if path.name not in (WEIGHTS, CONFIG) and not path.match(".*.tmp")
    )
    if others:
        raise InputError(
            f"{folder} holds other files ({others[0]}); choose an empty folder for the model."
        )
    if (folder / WEIGHTS).exists() and not is_saved(folder):
        raise InputError(f"{folder} holds {WEIGHTS} of something else; choose an empty folder.")


def _known(folder: Path) -> Any:
    with contextlib.suppress(InputError):
        return read_json(folder / CONFIG)
    return None
