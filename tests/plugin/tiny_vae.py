"""A model in another package, which Limner finds by the entry point in pyproject.toml."""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat

import limner
from limner.settings import Hidden


class TinyVAEConfig(limner.VAEConfig):
    """A VAE with small widths."""

    kind: Annotated[Literal["tiny-vae"], Hidden] = "tiny-vae"
    hidden_dims: tuple[int, ...] = (8,)
    latent_dim: int = 2
    output_scale: PositiveFloat = Field(default=1.0, description="factor of the output's weights")


class TinyVAE(limner.VAE):
    """A VAE whose output weights start smaller or larger."""

    config: TinyVAEConfig

    def __init__(self, config, image_shape):
        super().__init__(config, image_shape)
        with torch.no_grad():
            self.output.weight.mul_(config.output_scale)


limner.register(TinyVAE, TinyVAEConfig)
