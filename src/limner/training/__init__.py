"""Training: one loop for all models, its optimizer, checkpoints and run folders."""

from limner.training.launch import train
from limner.training.loading import load
from limner.training.runs import Run

__all__ = ["Run", "load", "train"]
