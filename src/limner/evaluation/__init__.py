"""Measuring trained models: bounds on log p(x), latent units, probes, interpolation."""

from limner.evaluation.comparison import Comparison, compare
from limner.evaluation.estimate import Estimate
from limner.evaluation.evaluating import evaluate
from limner.evaluation.evaluation import Evaluation
from limner.evaluation.likelihood import evaluate_model, set_num_steps
from limner.evaluation.results import results_of

__all__ = [
    "Comparison",
    "Estimate",
    "Evaluation",
    "compare",
    "evaluate",
    "evaluate_model",
    "results_of",
    "set_num_steps",
]
