"""-ELBO of weights on the validation images."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from limner.config import RunConfig
from limner.data import Dataset, Frozen, TrainingBatches, evenly
from limner.data.pixels import mixed_seed
from limner.device import noise_source
from limner.models import LatentVariableModel
from limner.objectives import importance_weighted_bound
from limner.training.averaging import recompute_batch_norm
from limner.training.state import figures_of

BATCH = 250
MOST = 10_000
"""Validation images that are used; of more, as many that are evenly spaced."""


class Validator:
    """Measures weights, loaded into its own `model`, with the same images and noise every time.

    Args:
        model: the model to train, of which a copy is made.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        batches: TrainingBatches,
        model: LatentVariableModel,
    ):
        self.config, self.batches = config, batches
        self.device = next(model.parameters()).device
        shown = replace(dataset, validation=evenly(dataset.validation, MOST))
        self.images = Frozen(shown, "validation", config.model.observation)
        self.model = deepcopy(model)
        self.model.compiled = False
        self.trained_bound = "iw_bound" if config.objective.kind == "iwae" else "elbo"
        """The figure that chooses the best weights: the bound that training maximises."""
        samples = config.objective.num_samples
        self.shown = "-ELBO" if self.trained_bound == "elbo" else f"-L_{samples}"
        """Its name with the sign that is shown."""

    def __call__(self, state: Mapping[str, Tensor], epoch: int) -> dict[str, Any]:
        """The mean figures of the validation images with these weights, after `with_statistics`."""
        self.with_statistics(state, epoch)
        return self._figures()

    def with_statistics(self, state: Mapping[str, Tensor], epoch: int) -> dict[str, Tensor]:
        """Load weights, and compute the batch-norm statistics that they have over the training set.

        The pixels are those drawn for `epoch`. Returns the tensors of `model` itself.
        """
        self.model.load_state_dict(state)
        batches = (self.batches.batch(epoch, i) for i in range(self.batches.steps_per_epoch))
        recompute_batch_norm(self.model, batches, self.config.seed)
        return self.model.state_dict()

    @torch.no_grad()
    def _figures(self) -> dict[str, Any]:
        self.model.eval()
        noise = noise_source(self.device).manual_seed(mixed_seed("validation", self.config.seed))
        totals = torch.zeros(2 + self.model.num_groups, device=self.device)
        for x in self.images.split(BATCH):
            inference = self.model.infer(x.to(self.device), noise)
            totals[0] += inference.log_likelihood.sum()
            totals[1:-1] += inference.kl.sum(0)
            totals[-1] += len(x)
        figures = figures_of(totals)
        if self.trained_bound == "iw_bound":
            figures["iw_bound"] = self._iw_bound(noise)
        return figures

    def _iw_bound(self, noise: torch.Generator) -> float | None:
        """The mean bound with the number of samples of training; None if it is not finite."""
        samples = self.config.objective.num_samples
        bounds = [
            importance_weighted_bound(self.model, x.to(self.device), samples, generator=noise)
            for x in self.images.split(BATCH)
        ]
        mean = torch.cat(bounds).mean().item()
        return mean if math.isfinite(mean) else None
