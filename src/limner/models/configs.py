"""The settings of every model. This module does not import torch, so that help is fast."""

import re
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from limner.layers.names import ActivationName, ObservationName
from limner.settings import Hidden, Settings

Memory = Literal["auto", "store", "recompute"]
Width = Annotated[int, Field(gt=0, le=2**16)]
"""Width of a layer or latent group. The limit is above any useful width, below overflow."""
MAX_LAYERS = 64
LARGEST_STEP = 16
"""Ratio of neighbouring scales. At 128, convolutions of 32 maps between them have 3e8 weights."""
Normalised = Annotated[int, Field(ge=2, le=2**16)]
"""Number of maps that are normalised together: one map of one cell would always be zero."""


class ModelConfig(Settings):
    """Settings that all models share."""

    prefix: ClassVar[str] = "model."
    observation: ObservationName = Field(default="bernoulli", description="p(x | z) of a pixel")
    kind: Any
    """The model's name. Each subclass declares its own: `kind: Literal["vae"] = "vae"`."""
    kl_warmup_steps: ClassVar[int] = 0
    """Steps in which the weight of the KL rises from 0, whatever the objective."""

    @property
    def free(self) -> frozenset[str]:
        """Settings that may differ from those of the model whose weights training starts from."""
        return frozenset()


class RecurrentConfig(ModelConfig):
    """Settings that all recurrent models share."""

    num_steps: Width = Field(default=10, description="steps T, each with its own latent group")
    memory: Memory = Field(
        default="auto",
        description="keep every step for the backward pass, or recompute them in chunks",
    )

    @property
    def free(self) -> frozenset[str]:
        return frozenset({"num_steps", "memory"})


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


class ConvVAEConfig(ModelConfig):
    """A convolutional VAE: residual blocks at each resolution, one latent group."""

    kind: Annotated[Literal["conv-vae"], Hidden] = "conv-vae"
    hidden_maps: tuple[Normalised, ...] = Field(
        default=(32, 64),
        min_length=1,
        max_length=7,
        description="maps at 1/2, 1/4, ... of the image's resolution",
    )
    blocks: Annotated[int, Field(ge=0, le=MAX_LAYERS)] = Field(
        default=1, description="residual blocks per resolution"
    )
    latent: Literal["vector", "maps"] = Field(
        default="vector", description="z is a vector, or maps at the coarsest resolution"
    )
    latent_dim: Width = Field(default=64, description="latent variables, or latent maps")
    activation: ActivationName = Field(default="silu", description="nonlinearity")


class ConvLadderVAEConfig(ModelConfig):
    """A convolutional Ladder VAE: latent maps at several resolutions."""

    kind: Annotated[Literal["conv-ladder-vae"], Hidden] = "conv-ladder-vae"
    groups: str = Field(
        default="2x1,4x3,8x2",
        description="latent groups, bottom first: 4x3 is three groups at 1/4 of the resolution",
    )
    hidden_maps: Normalised = Field(default=32, description="maps at every resolution")
    latent_maps: Width = Field(default=4, description="latent maps of each group")
    blocks: Annotated[int, Field(ge=0, le=MAX_LAYERS)] = Field(
        default=1, description="residual blocks per resolution on the way up"
    )
    posterior: Literal["merged", "learned"] = Field(
        default="merged",
        description="precision-weighted merge with the prior, or from features of both passes",
    )
    activation: ActivationName = Field(default="silu", description="nonlinearity")

    @field_validator("groups")
    @classmethod
    def _readable(cls, groups: str) -> str:
        numbers = cls._numbers(groups)
        scales = [scale for scale, _ in numbers]
        if not numbers or scales != sorted(set(scales)) or sum(n for _, n in numbers) > MAX_LAYERS:
            raise ValueError(
                "give pairs such as 2x1,4x3: scales 1, 2, 4, ... 128 in rising order, each with "
                f"its number of groups, at most {MAX_LAYERS} in all"
            )
        for below, scale in pairwise([1, *scales]):
            if scale > LARGEST_STEP * below:
                raise ValueError(
                    f"no scale may be more than {LARGEST_STEP} times the one before, and {scale} "
                    f"follows {below}; the weights between them grow with the square: add a scale "
                    "between them"
                )
        return groups

    @staticmethod
    def _numbers(groups: str) -> list[tuple[int, int]]:
        found = [re.fullmatch(r"(1|2|4|8|16|32|64|128)x([1-9]\d?)", part.strip())
                 for part in groups.split(",")]  # fmt: skip
        return [(int(each[1]), int(each[2])) for each in found if each] if all(found) else []

    @property
    def scales(self) -> list[tuple[int, int]]:
        """Each scale and its number of groups, bottom first."""
        return self._numbers(self.groups)


class ConvDRAWConfig(RecurrentConfig):
    """Convolutional DRAW: latent maps at each step, with a learned prior."""

    kind: Annotated[Literal["conv-draw"], Hidden] = "conv-draw"
    kl_warmup_steps: ClassVar[int] = 400
    num_steps: Width = Field(default=8, description="steps T, each with its own latent group")
    hidden_maps: Width = Field(default=32, description="maps of both LSTMs")
    latent_maps: Width = Field(default=4, description="latent maps of each step")
    scale: Literal[1, 2, 4, 8] = Field(
        default=4, description="pixels per cell of the latent maps, along each side"
    )
    kernel: Literal[1, 3, 5, 7] = Field(default=3, description="side of the convolutions' kernels")
    tied: bool = Field(default=True, description="steps share their weights, as in the paper")

    @property
    def free(self) -> frozenset[str]:
        return super().free if self.tied else frozenset({"memory"})


OWN: dict[str, type[ModelConfig]] = {
    "vae": VAEConfig,
    "ladder-vae": LadderVAEConfig,
    "draw": DRAWConfig,
    "conv-vae": ConvVAEConfig,
    "conv-ladder-vae": ConvLadderVAEConfig,
    "conv-draw": ConvDRAWConfig,
}
"""Configs of Limner's own models by kind: ABConfig of a-b, whose model is limner.models.a_b.AB."""
