"""Limner: deep latent-variable models of images, exact to the papers.

VAE, Ladder VAE and DRAW behind one interface: `model.infer(x)` explains images, `model.generate(n)`
draws them. The names below are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "DRAW": "models",
    "VAE": "models",
    "DRAWConfig": "models",
    "Generation": "models",
    "Inference": "models",
    "LadderVAE": "models",
    "LadderVAEConfig": "models",
    "LatentVariableModel": "models",
    "ModelConfig": "models",
    "VAEConfig": "models",
    "InputError": "errors",
    "elbo": "objectives",
    "importance_weighted_bound": "objectives",
    "load": "training.loading",
    "push": "sharing",
    "register": "models",
}

if TYPE_CHECKING:
    from limner.errors import InputError as InputError
    from limner.models import DRAW as DRAW
    from limner.models import VAE as VAE
    from limner.models import DRAWConfig as DRAWConfig
    from limner.models import Generation as Generation
    from limner.models import Inference as Inference
    from limner.models import LadderVAE as LadderVAE
    from limner.models import LadderVAEConfig as LadderVAEConfig
    from limner.models import LatentVariableModel as LatentVariableModel
    from limner.models import ModelConfig as ModelConfig
    from limner.models import VAEConfig as VAEConfig
    from limner.models import register as register
    from limner.objectives import elbo as elbo
    from limner.objectives import importance_weighted_bound as importance_weighted_bound
    from limner.sharing import push as push
    from limner.training.loading import load as load

__all__ = [
    "DRAW",
    "VAE",
    "DRAWConfig",
    "Generation",
    "Inference",
    "InputError",
    "LadderVAE",
    "LadderVAEConfig",
    "LatentVariableModel",
    "ModelConfig",
    "VAEConfig",
    "__version__",
    "elbo",
    "importance_weighted_bound",
    "load",
    "push",
    "register",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"limner.{_HOMES[name]}"), name)
    if name in ("layers", "models", "data", "objectives", "training", "evaluation", "figures"):
        return import_module(f"limner.{name}")
    raise AttributeError(f"module 'limner' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
