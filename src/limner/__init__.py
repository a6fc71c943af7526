"""Limner: deep latent-variable models of images, exact to the papers.

VAE, Ladder VAE and DRAW behind one interface: `model.infer(x)` explains images, `model.generate(n)`
draws them. The names below are imported when they are first used.
"""

from typing import TYPE_CHECKING

from limner.lazy import lazy

__version__ = "0.1.0"

_HOMES = {
    "Comparison": "evaluation",
    "DRAW": "models",
    "DRAWConfig": "models",
    "Evaluation": "evaluation",
    "Fit": "training.fitting",
    "Generation": "models",
    "History": "training.history",
    "Inference": "models",
    "InputError": "errors",
    "ConvDRAW": "models",
    "ConvDRAWConfig": "models",
    "ConvLadderVAE": "models",
    "ConvLadderVAEConfig": "models",
    "ConvVAE": "models",
    "ConvVAEConfig": "models",
    "LadderVAE": "models",
    "LadderVAEConfig": "models",
    "LatentVariableModel": "models",
    "ModelConfig": "models",
    "Run": "training.runs",
    "RunConfig": "config",
    "TrainingState": "training.callback",
    "VAE": "models",
    "VAEConfig": "models",
    "compare": "evaluation",
    "compress": "coding",
    "decompress": "coding",
    "elbo": "objectives",
    "evaluate": "evaluation",
    "fit": "training.fitting",
    "importance_weighted_bound": "objectives",
    "load": "training.loading",
    "push": "sharing",
    "recipe": "recipes",
    "register": "models",
    "show": "figures.showing",
    "train": "training.launch",
}

if TYPE_CHECKING:
    from limner.coding import compress as compress
    from limner.coding import decompress as decompress
    from limner.config import RunConfig as RunConfig
    from limner.errors import InputError as InputError
    from limner.evaluation import Comparison as Comparison
    from limner.evaluation import Evaluation as Evaluation
    from limner.evaluation import compare as compare
    from limner.evaluation import evaluate as evaluate
    from limner.figures.showing import show as show
    from limner.models import DRAW as DRAW
    from limner.models import VAE as VAE
    from limner.models import ConvDRAW as ConvDRAW
    from limner.models import ConvDRAWConfig as ConvDRAWConfig
    from limner.models import ConvLadderVAE as ConvLadderVAE
    from limner.models import ConvLadderVAEConfig as ConvLadderVAEConfig
    from limner.models import ConvVAE as ConvVAE
    from limner.models import ConvVAEConfig as ConvVAEConfig
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
    from limner.recipes import recipe as recipe
    from limner.sharing import push as push
    from limner.training.callback import TrainingState as TrainingState
    from limner.training.fitting import Fit as Fit
    from limner.training.fitting import fit as fit
    from limner.training.history import History as History
    from limner.training.launch import train as train
    from limner.training.loading import load as load
    from limner.training.runs import Run as Run

__all__ = [
    "DRAW",
    "VAE",
    "Comparison",
    "ConvDRAW",
    "ConvDRAWConfig",
    "ConvLadderVAE",
    "ConvLadderVAEConfig",
    "ConvVAE",
    "ConvVAEConfig",
    "DRAWConfig",
    "Evaluation",
    "Fit",
    "Generation",
    "History",
    "Inference",
    "InputError",
    "LadderVAE",
    "LadderVAEConfig",
    "LatentVariableModel",
    "ModelConfig",
    "Run",
    "RunConfig",
    "TrainingState",
    "VAEConfig",
    "__version__",
    "compare",
    "compress",
    "decompress",
    "elbo",
    "evaluate",
    "fit",
    "importance_weighted_bound",
    "load",
    "push",
    "recipe",
    "register",
    "show",
    "train",
]


__getattr__, __dir__ = lazy(
    __name__,
    _HOMES,
    ("layers", "models", "data", "objectives", "training", "evaluation", "figures"),
)
