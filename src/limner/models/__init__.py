"""The models, their configs, and the types of their results.

The names below are imported on first use, so that configs can be read without importing torch.
"""

from typing import TYPE_CHECKING

from limner.lazy import lazy

_HOMES = {
    "ConvVAE": "conv_vae",
    "ConvVAEConfig": "configs",
    "ConvLadderVAE": "conv_ladder_vae",
    "ConvLadderVAEConfig": "configs",
    "ConvDRAW": "conv_draw",
    "ConvDRAWConfig": "configs",
    "DRAW": "draw",
    "VAE": "vae",
    "DRAWConfig": "configs",
    "Generation": "base",
    "Inference": "base",
    "LadderVAE": "ladder_vae",
    "LadderVAEConfig": "configs",
    "Latent": "base",
    "LatentVariableModel": "base",
    "ModelConfig": "configs",
    "RecurrentConfig": "configs",
    "RecurrentModel": "recurrent",
    "VAEConfig": "configs",
    "build": "registry",
    "class_of": "registry",
    "config_class": "registry",
    "config_from": "registry",
    "kinds": "registry",
    "model_class": "registry",
    "outline": "registry",
    "register": "registry",
}

if TYPE_CHECKING:
    from limner.models.base import Generation as Generation
    from limner.models.base import Inference as Inference
    from limner.models.base import Latent as Latent
    from limner.models.base import LatentVariableModel as LatentVariableModel
    from limner.models.configs import ConvDRAWConfig as ConvDRAWConfig
    from limner.models.configs import ConvLadderVAEConfig as ConvLadderVAEConfig
    from limner.models.configs import ConvVAEConfig as ConvVAEConfig
    from limner.models.configs import DRAWConfig as DRAWConfig
    from limner.models.configs import LadderVAEConfig as LadderVAEConfig
    from limner.models.configs import ModelConfig as ModelConfig
    from limner.models.configs import RecurrentConfig as RecurrentConfig
    from limner.models.configs import VAEConfig as VAEConfig
    from limner.models.conv_draw import ConvDRAW as ConvDRAW
    from limner.models.conv_ladder_vae import ConvLadderVAE as ConvLadderVAE
    from limner.models.conv_vae import ConvVAE as ConvVAE
    from limner.models.draw import DRAW as DRAW
    from limner.models.ladder_vae import LadderVAE as LadderVAE
    from limner.models.recurrent import RecurrentModel as RecurrentModel
    from limner.models.registry import build as build
    from limner.models.registry import class_of as class_of
    from limner.models.registry import config_class as config_class
    from limner.models.registry import config_from as config_from
    from limner.models.registry import kinds as kinds
    from limner.models.registry import model_class as model_class
    from limner.models.registry import outline as outline
    from limner.models.registry import register as register
    from limner.models.vae import VAE as VAE


__getattr__, __dir__ = lazy(
    __name__,
    _HOMES,
    (
        "base",
        "configs",
        "conv_draw",
        "conv_ladder_vae",
        "conv_vae",
        "draw",
        "ladder_vae",
        "recurrent",
        "registry",
        "vae",
    ),
)
