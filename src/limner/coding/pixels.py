"""The levels of images, and on a stack, channel by channel, each coded by its masses.

Logs of masses are rounded to multiples of 2^-8, and masses to whole numbers.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from limner.coding.coder import require_coder, stream
from limner.coding.container import BATCH
from limner.coding.grids import ROUNDING
from limner.errors import InputError
from limner.layers.observation import Gaussian, Observation
from limner.models.base import Latent, LatentVariableModel

UNIT = 2.0**24
"""A mass of one."""
MASSES = 2**22
"""Masses that are in memory together."""
NOT_FINITE = (
    "p(x | z) of an image is not finite; compress with another checkpoint, or train again with a "
    "lower learning rate."
)
FITTED = 256
"""Images that grids are fitted to."""


def in_double(model: LatentVariableModel) -> LatentVariableModel:
    """A copy in float64 on the CPU, in evaluation mode."""
    require_coder()
    check_model(model)
    return deepcopy(model).cpu().double().eval()


def check_model(model: LatentVariableModel) -> None:
    """Refuse a model that gives images no masses."""
    if model.config.observation == "gaussian":
        raise InputError(
            "A Gaussian is a density of dequantized images and gives their levels no masses; "
            "train a model with --model.observation discretized_logistic."
        )


def top_level(model: LatentVariableModel) -> int:
    """The level of white: 1 of binary pixels, 255 of others."""
    return 1 if model.config.observation == "bernoulli" else 255


def levels_of(model: LatentVariableModel, x: Tensor) -> Tensor:
    """Levels, uint8, of images as `model` sees them.

    Raises:
        InputError: pixels between two levels, which would come back as one of them.
    """
    exact = x.cpu().double() * top_level(model)
    levels = exact.round()
    if (exact - levels).abs().max() > 0.01:
        raise InputError(
            f"Images must have pixels of whole levels, k / {top_level(model)}; round them first."
        )
    return levels.to(torch.uint8)


def shown(model: LatentVariableModel, levels: Tensor) -> Tensor:
    """Levels as `model` sees them, in its dtype."""
    return levels.to(model._dtype) / top_level(model)


def together(model: LatentVariableModel) -> int:
    """Images that are coded together: as many as have their masses in memory."""
    _, height, width = model.image_shape
    return max(1, min(BATCH, MASSES // (height * width * (top_level(model) + 1))))


def posteriors(model: LatentVariableModel, levels: Tensor) -> list[tuple[Normal, Normal]]:
    """q and p of each latent group, of the first images."""
    found: list[list[Latent]] = []
    for part in levels[:FITTED].split(together(model)):
        inference = model.infer(shown(model, part), torch.Generator().manual_seed(0), trace=True)
        found.append(inference.latents or [])
    return [
        (_joined([each.q for each in group]), _joined([each.p for each in group]))
        for group in zip(*found, strict=True)
    ]


def _joined(parts: Sequence[Normal]) -> Normal:
    loc, scale = (torch.cat([getattr(part, name) for part in parts]) for name in ("loc", "scale"))
    return Normal(loc, scale, validate_args=False)


def put(stack: Any, observation: Observation, x: Tensor) -> None:
    """Put images [batch, C, H, W] on the stack, last channel first."""
    assert not isinstance(observation, Gaussian)
    for channel in reversed(range(x.shape[1])):
        table = _table(observation.log_masses(channel, x.unbind(1)))
        levels = (x[:, channel] * (table.shape[-1] - 1)).round().int()
        rows = table.reshape(-1, table.shape[-1])
        stack.encode_reverse(levels.flatten().numpy(), _categorical(), rows)


def take(stack: Any, observation: Observation, channels: int) -> Tensor:
    """Levels [batch, channels, H, W] taken from the stack."""
    assert not isinstance(observation, Gaussian)
    before, levels = list[Tensor](), list[Tensor]()
    for channel in range(channels):
        table = _table(observation.log_masses(channel, before))
        taken = stack.decode(_categorical(), table.reshape(-1, table.shape[-1]))
        levels.append(torch.from_numpy(taken.reshape(table.shape[:-1])))
        before.append(levels[-1].double() / (table.shape[-1] - 1))
    return torch.stack(levels, 1)


def _categorical() -> Any:
    """Distributions that rows of masses define."""
    return stream.model.Categorical(perfect=False)


def _table(log_masses: Tensor) -> np.ndarray:
    """Masses [batch, H, W, levels] in whole numbers."""
    if log_masses.isnan().any():
        raise InputError(NOT_FINITE)
    rounded = (log_masses / ROUNDING).round_().mul_(ROUNDING)
    return rounded.exp_().mul_(UNIT).round_().numpy()
