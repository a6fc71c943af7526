"""The models, by the name that configs and the command line use."""

from typing import Annotated

from pydantic import Field

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


def build(
    config: VAEConfig | LadderVAEConfig | DRAWConfig, image_shape: tuple[int, int, int]
) -> LatentVariableModel:
    """The model of a config."""
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
]
