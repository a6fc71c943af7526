"""The models and the types of their results. Limner's own models are registered here."""

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
from limner.models.recurrent import RecurrentConfig, RecurrentModel
from limner.models.registry import (
    build,
    class_of,
    config_class,
    config_from,
    kinds,
    model_class,
    outline,
    register,
)
from limner.models.vae import VAE, VAEConfig

register(VAE, VAEConfig)
register(LadderVAE, LadderVAEConfig)
register(DRAW, DRAWConfig)

__all__ = [
    "DRAW",
    "VAE",
    "DRAWConfig",
    "Generation",
    "Inference",
    "LadderVAE",
    "LadderVAEConfig",
    "Latent",
    "LatentVariableModel",
    "ModelConfig",
    "RecurrentConfig",
    "RecurrentModel",
    "VAEConfig",
    "Window",
    "Windows",
    "build",
    "class_of",
    "config_class",
    "config_from",
    "kinds",
    "model_class",
    "outline",
    "register",
]
