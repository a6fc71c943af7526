"""The JSON files of a run, checked when they are read.

A run folder may come from anywhere. The values that reports and comparisons use have the types
below; files may hold others too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)
from torch import Tensor

from limner.errors import InputError
from limner.models.base import ImageShape


class Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Statistic(Record):
    mean: float
    stderr: NonNegativeFloat | None


class ImportanceBound(Statistic):
    num_samples: PositiveInt


class BitsPerDim(Record):
    elbo: Statistic
    iw_bound: Statistic


class Coded(Record):
    """A file that images were compressed to."""

    num_images: PositiveInt
    nats: NonNegativeFloat
    minus_elbo: float
    bits_per_dim: NonNegativeFloat
    initial_bits: NonNegativeInt


class Results(Record):
    """results.json."""

    elbo: Statistic
    reconstruction: Statistic
    kl: Statistic
    iw_bound: ImportanceBound
    bits_per_dim: BitsPerDim
    kl_per_group: list[float] = []
    elbo_per_step: list[Statistic] = []
    active_units: list[NonNegativeInt | None]
    latent_units: list[NonNegativeInt] = []
    coded: Coded | None = None
    dataset: str
    split: str
    binarization: str
    observation: str
    num_images: PositiveInt
    images: str | None = None
    parameters: NonNegativeInt
    epochs: NonNegativeFloat | None
    training_seconds: NonNegativeFloat | None
    images_per_second: NonNegativeFloat | None
    versions: dict[str, str]


class Figures(Record):
    """Means over images; None for a mean that is not finite."""

    elbo: float | None
    reconstruction: float | None
    kl: float | None
    kl_per_group: list[float] | None


class Epoch(Record):
    """A line of metrics.jsonl."""

    epoch: NonNegativeFloat
    seconds: NonNegativeFloat
    images_per_second: NonNegativeFloat
    skipped_steps: NonNegativeInt = 0
    train: Figures
    validation: Figures


class _Weights(Record):
    """The document of a file of weights."""

    image_shape: list[PositiveInt] = Field(min_length=3, max_length=3)


def checked(values: Any, kind: type[Record], path: Path, advice: str) -> dict[str, Any]:
    """`values`, if they are of `kind`; otherwise raises `InputError` with `advice`."""
    try:
        kind.model_validate(values)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "it"
        raise InputError(
            f"{path} is damaged: {where} is not what it should be; {advice}."
        ) from None
    return values


def image_shape_of(document: Mapping[str, Any], path: Path) -> ImageShape:
    """The shape of the images that the weights in `path` were trained on."""
    channels, height, width = checked(document, _Weights, path, "train the run again")[
        "image_shape"
    ]
    return channels, height, width


def check_values(values: Mapping[str, Tensor], count: int, path: Path) -> None:
    """Refuse what is not the evaluation of `count` single images."""
    shapes = {name: tuple(values[name].shape) for name in values}
    per_image = all(shapes.get(name) == (count,) for name in ("elbo", "log_likelihood", "iw_bound"))
    real = all(value.is_floating_point() for value in values.values())
    if not (real and per_image) or shapes.get("kl", ())[:-1] != (count,):
        raise InputError(f"{path} is not of the run's results; run limner evaluate again.")
