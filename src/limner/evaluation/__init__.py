"""Measuring trained models: bounds on log p(x), latent units, probes, interpolation."""

from typing import TYPE_CHECKING

from limner.lazy import lazy

_HOMES = {
    "Comparison": "comparison",
    "Estimate": "estimate",
    "Evaluation": "evaluation",
    "compare": "comparison",
    "evaluate": "evaluating",
    "evaluate_model": "likelihood",
    "results_of": "results",
    "set_num_steps": "likelihood",
}

if TYPE_CHECKING:
    from limner.evaluation.comparison import Comparison as Comparison
    from limner.evaluation.comparison import compare as compare
    from limner.evaluation.estimate import Estimate as Estimate
    from limner.evaluation.evaluating import evaluate as evaluate
    from limner.evaluation.evaluation import Evaluation as Evaluation
    from limner.evaluation.likelihood import evaluate_model as evaluate_model
    from limner.evaluation.likelihood import set_num_steps as set_num_steps
    from limner.evaluation.results import results_of as results_of

__getattr__, __dir__ = lazy(__name__, _HOMES)
