"""The levels of images on a stack, channel by channel, each coded by its masses.

Logs of masses are rounded to multiples of 2^-8, and masses to whole numbers.
"""

from typing import Any

import numpy as np
import torch
from constriction import stream
from torch import Tensor

from limner.coding.grids import ROUNDING
from limner.layers.observation import Gaussian, Observation
from limner.models.base import LatentVariableModel

FAMILY = stream.model.Categorical(perfect=False)
UNIT = 2.0**24
"""A mass of one."""


def top_level(model: LatentVariableModel) -> int:
    """The level of white: 1 of binary pixels, 255 of others."""
    return 1 if model.config.observation == "bernoulli" else 255


def put(stack: Any, observation: Observation, x: Tensor) -> None:
    """Put images [batch, C, H, W] on the stack, last channel first."""
    assert not isinstance(observation, Gaussian)
    for channel in reversed(range(x.shape[1])):
        table = _table(observation.log_masses(channel, x))
        levels = (x[:, channel] * (table.shape[-1] - 1)).round().flatten().int()
        stack.encode_reverse(levels.numpy(), FAMILY, table)


def take(stack: Any, observation: Observation, like: Tensor) -> Tensor:
    """Images taken from the stack, in the shape of `like`."""
    assert not isinstance(observation, Gaussian)
    x = torch.zeros_like(like)
    for channel in range(like.shape[1]):
        table = _table(observation.log_masses(channel, x))
        levels = stack.decode(FAMILY, table).reshape(x[:, channel].shape)
        x[:, channel] = torch.from_numpy(levels).to(x) / (table.shape[-1] - 1)
    return x


def _table(log_masses: Tensor) -> np.ndarray:
    """Rows of masses in whole numbers."""
    rounded = (log_masses / ROUNDING).round_().mul_(ROUNDING)
    return rounded.exp_().mul_(UNIT).round_().flatten(0, -2).numpy()
