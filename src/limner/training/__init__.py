"""Training: one loop for all models, its optimizer, checkpoints and run folders."""

from limner.training.runs import Run, load
from limner.training.train import train

__all__ = ["Run", "load", "train"]
