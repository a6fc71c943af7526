"""The weights for evaluation: averaged over steps, with their own batch-norm statistics."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, update_bn

from limner.device import noise_source

EVERY = 32
"""Steps between two updates of the average; each applies the decay of that many steps."""


def due(step: int) -> bool:
    """Whether the average is updated after `step` steps: 1, 2, 4, 8, 16, 32, then every 32."""
    return step % EVERY == 0 or (step < EVERY and step.bit_count() == 1)


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of `model`'s weights, updated when `due`.

    After n updates the decay is at most (1 + n) / (10 + n), so that initial weights decay fast.
    """

    @torch.no_grad()
    def update(average: PARAM_LIST, current: PARAM_LIST, updates: Tensor | int) -> None:
        n = int(updates)
        weight = 1 - min(decay**EVERY, (1 + n) / (10 + n))
        torch._foreach_lerp_(average, current, weight)  # type: ignore[reportPrivateImportUsage]

    return AveragedModel(model, multi_avg_fn=update)


def has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def recompute_batch_norm(model: nn.Module, batches: Iterable[Tensor], seed: int) -> None:
    """Batch-norm statistics of `model` over `batches` of training images, for its current weights.

    Does not change the model's mode. Has no effect on a model without batch norm.
    """
    if has_batch_norm(model):
        with torch.no_grad():
            update_bn(batches, _WithNoise(model, seed))


class _WithNoise(nn.Module):
    """A model whose noise comes from a generator of its own."""

    def __init__(self, model: nn.Module, seed: int):
        super().__init__()
        self.model = model
        self.train(model.training)
        device = next(model.parameters()).device
        self.noise = noise_source(device).manual_seed(seed)

    def forward(self, x: Tensor) -> object:
        return self.model(x, self.noise)
