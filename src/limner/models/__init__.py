"""The models, by the name that configs and the command line use."""

from typing import Annotated

import torch
from pydantic import Field

from limner.errors import InputError
from limner.layers.attention import Window, Windows
from limner.models.base import (
    Generation,
    Inference,
    Latent,
    LatentVariableModel,
    ModelConfig,
)
from limner.models.draw import DRAW, DRAWConfig
from limner.models.ladder_vae import LadderVAE, LadderVAEConfig
from limner.models.vae import VAE, VAEConfig

MODELS: dict[str, type[LatentVariableModel]] = {"vae": VAE, "ladder-vae": LadderVAE, "draw": DRAW}
"""A new model is one file beside these and one entry here (and in `AnyModelConfig`)."""

AnyModelConfig = Annotated[VAEConfig | LadderVAEConfig | DRAWConfig, Field(discriminator="kind")]


MAX_PARAMETERS = 2**30


def build(
    config: VAEConfig | LadderVAEConfig | DRAWConfig, image_shape: tuple[int, int, int]
) -> LatentVariableModel:
    """The model of a config.

    Raises:
        InputError: it would have more than `MAX_PARAMETERS`. No memory has been taken then.
    """
    count = outline(config, image_shape).num_parameters
    if count > MAX_PARAMETERS:
        raise InputError(
            f"This model would have {count:,} parameters, more than the {MAX_PARAMETERS:,} that "
            "Limner trains; make its widths smaller."
        )
    return MODELS[config.kind](config, image_shape)


def outline(
    config: VAEConfig | LadderVAEConfig | DRAWConfig, image_shape: tuple[int, int, int]
) -> LatentVariableModel:
    """The model of a config with the shapes of its parameters and no memory for them."""
    with torch.device("meta"):
        return MODELS[config.kind](config, image_shape)


__all__ = [
    "DRAW",
    "MODELS",
    "VAE",
    "AnyModelConfig",
    "DRAWConfig",
    "Generation",
    "Inference",
    "LadderVAE",
    "LadderVAEConfig",
    "Latent",
    "LatentVariableModel",
    "ModelConfig",
    "VAEConfig",
    "Window",
    "Windows",
    "build",
    "outline",
]
