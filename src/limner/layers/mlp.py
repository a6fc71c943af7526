"""Multi-layer perceptrons."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from limner.layers.batch import BatchNorm
from limner.layers.linear import Linear
from limner.layers.names import ActivationName

ACTIVATIONS: dict[ActivationName, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "silu": nn.SiLU,
}


def mlp(
    dims: Sequence[int], activation: ActivationName = "relu", batch_norm: bool = False
) -> nn.Sequential:
    """Linear, (batch norm,) activation for each pair `dims[i]`, `dims[i + 1]` of widths."""
    layers: list[nn.Module] = []
    for in_dim, out_dim in pairwise(dims):
        layers.append(Linear(in_dim, out_dim))
        if batch_norm:
            layers.append(BatchNorm(out_dim))
        layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers)
