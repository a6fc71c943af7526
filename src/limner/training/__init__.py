"""Training: one loop for all models, its optimizer, checkpoints and run folders."""

from typing import TYPE_CHECKING

from limner.lazy import lazy

_HOMES = {"Run": "runs", "load": "loading", "train": "launch"}

if TYPE_CHECKING:
    from limner.training.launch import train as train
    from limner.training.loading import load as load
    from limner.training.runs import Run as Run

__getattr__, __dir__ = lazy(__name__, _HOMES)
