"""The levels of images on a stack, channel by channel, each coded by its masses."""

from typing import Any

import numpy as np
import torch
from constriction import stream
from torch import Tensor

from limner.layers.observation import Gaussian, Observation

FAMILY = stream.model.Categorical(perfect=False)


def put(stack: Any, observation: Observation, x: Tensor) -> None:
    """Put images [batch, C, H, W] on the stack, last channel first."""
    assert not isinstance(observation, Gaussian)
    for channel in reversed(range(x.shape[1])):
        masses = observation.masses(channel, x)
        levels = (x[:, channel] * (masses.shape[-1] - 1)).round().flatten().int()
        stack.encode_reverse(levels.numpy(), FAMILY, _table(masses))


def take(stack: Any, observation: Observation, like: Tensor) -> Tensor:
    """Images taken from the stack, in the shape of `like`."""
    assert not isinstance(observation, Gaussian)
    x = torch.zeros_like(like)
    for channel in range(like.shape[1]):
        masses = observation.masses(channel, x)
        levels = stack.decode(FAMILY, _table(masses)).reshape(masses.shape[:-1])
        x[:, channel] = torch.from_numpy(levels).to(x) / (masses.shape[-1] - 1)
    return x


def _table(masses: Tensor) -> np.ndarray:
    """Rows of masses, float32."""
    return masses.flatten(0, -2).float().contiguous().numpy()
