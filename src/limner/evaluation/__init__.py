"""Measuring trained models: bounds on log p(x), latent units, probes, interpolation."""

from limner.evaluation.likelihood import Evaluation, evaluate_model, set_num_steps
from limner.evaluation.results import results_of, summary

__all__ = ["Evaluation", "evaluate_model", "results_of", "set_num_steps", "summary"]
