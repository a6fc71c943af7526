"""The settings of every model. This module does not import torch, so that help is fast."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from limner.layers.names import ActivationName, ObservationName
from limner.settings import Hidden, Settings

Memory = Literal["auto", "store", "recompute"]
Width = Annotated[int, Field(gt=0, le=2**16)]
"""Width of a layer or latent group. The limit is above any useful width, below overflow."""
MAX_LAYERS = 64


class ModelConfig(Settings):
    """Settings that all models share."""

    prefix: ClassVar[str] = "model."
    free: ClassVar[frozenset[str]] = frozenset()
    """Settings that may differ from those of the model whose weights training starts from."""
    observation: ObservationName = Field(default="bernoulli", description="p(x | z) of a pixel")
    kind: Any
    """The model's name. Each subclass declares its own: `kind: Literal["vae"] = "vae"`."""


class RecurrentConfig(ModelConfig):
    """Settings that all recurrent models share."""

    free: ClassVar[frozenset[str]] = frozenset({"num_steps", "memory"})
    num_steps: Width = Field(default=10, description="steps T, each with its own latent group")
    memory: Memory = Field(
        default="auto",
        description="keep every step for the backward pass, or recompute them in chunks",
    )


class VAEConfig(ModelConfig):
    """A variational autoencoder: MLPs, one latent group; the decoder mirrors the encoder."""

    kind: Annotated[Literal["vae"], Hidden] = "vae"
    hidden_dims: tuple[Width, ...] = Field(
        default=(512, 256), max_length=MAX_LAYERS, description="encoder widths"
    )
    latent_dim: Width = Field(default=50, description="latent variables")
    activation: ActivationName = Field(default="relu", description="nonlinearity of the MLPs")


class LadderVAEConfig(ModelConfig):
    """A Ladder VAE: one latent group per layer. Widths are bottom first, one per layer."""

    kind: Annotated[Literal["ladder-vae"], Hidden] = "ladder-vae"
    hidden_dims: tuple[Width, ...] = Field(
        default=(512, 256, 128, 64, 32),
        min_length=1,
        max_length=MAX_LAYERS,
        description="width of each layer's two-layer MLPs",
    )
    latent_dims: tuple[Width, ...] = Field(
        default=(64, 32, 16, 8, 4),
        min_length=1,
        max_length=MAX_LAYERS,
        description="latent variables of each layer",
    )
    activation: ActivationName = Field(default="leaky_relu", description="nonlinearity of the MLPs")

    @model_validator(mode="after")
    def _one_latent_group_a_layer(self) -> "LadderVAEConfig":
        if len(self.hidden_dims) != len(self.latent_dims):
            raise ValueError(
                f"--model.hidden-dims gives {len(self.hidden_dims)} layers, and "
                f"--model.latent-dims gives {len(self.latent_dims)}; give both the same number"
            )
        return self


class DRAWConfig(RecurrentConfig):
    """DRAW: recurrent, one latent group per step. The defaults are short and without attention."""

    kind: Annotated[Literal["draw"], Hidden] = "draw"
    attention: Literal["none", "filterbank"] = Field(
        default="none", description="how to read and write"
    )
    read_size: Width = Field(default=2, description="filters per side for reading (filterbank)")
    write_size: Width = Field(default=5, description="filters per side for writing (filterbank)")
    hidden_dim: Width = Field(default=256, description="width of both LSTMs")
    latent_dim: Width = Field(default=100, description="latent variables of each step")
    prior: Literal["standard", "learned"] = Field(
        default="standard", description="p(z_t): N(0, I) as in the paper, or linear in h_dec_{t-1}"
    )


OWN: dict[str, type[ModelConfig]] = {
    "vae": VAEConfig,
    "ladder-vae": LadderVAEConfig,
    "draw": DRAWConfig,
}
"""Configs of Limner's own models by kind: ABConfig of a-b, whose model is limner.models.a_b.AB."""
