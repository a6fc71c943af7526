"""The floor: matrix products that a training step of DRAW cannot avoid, each timed alone.

For every layer y = x W^T of the recurrence, at the shapes of one step: forward (x W^T), input
gradient (dy W) and weight gradient (dy^T x), once a step each. Filter products are not counted.
"""

from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch

from limner.layers.products import product
from limner.models import DRAW


class Product(NamedTuple):
    """C[m, n] = A[m, k] B[k, n], `times` times in a training step."""

    name: str
    m: int
    n: int
    k: int
    times: int


def products(model: DRAW, batch: int) -> list[Product]:
    """The unavoidable products of one training step on `batch` images.

    Without attention x does not change: its share of the encoder's product is taken once, and has
    no input gradient.
    """
    config, steps = model.config, model.num_steps
    hidden, latent, pixels = config.hidden_dim, config.latent_dim, model.reader.glimpse_dim // 2
    whole = config.attention == "none"
    layers = {
        "encoder LSTM": (4 * hidden, (pixels if whole else 2 * pixels) + 2 * hidden),
        "posterior heads": (2 * latent, hidden),
        "decoder LSTM": (4 * hidden, latent + hidden),
        "decoder heads": (model.reader.heads_dim, hidden),
    }
    found = []
    for name, (out, inputs) in layers.items():
        found += [
            Product(f"{name}, forward", batch, out, inputs, steps),
            Product(f"{name}, input gradient", batch, inputs, out, steps),
            Product(f"{name}, weight gradient", out, inputs, batch, steps),
        ]
    if whole:
        found += [
            Product("x to encoder, forward", batch, 4 * hidden, pixels, 1),
            Product("x to encoder, weight gradient", 4 * hidden, pixels, batch, 1),
        ]
    return found


def timed(wanted: Product, repeats: int = 9) -> float:
    """Seconds of one such product, the median of `repeats`, as training takes it."""
    if wanted.name.endswith("weight gradient"):
        a, b = torch.randn(wanted.k, wanted.m).T, torch.randn(wanted.k, wanted.n).T
    elif wanted.name.endswith("input gradient"):
        a, b = torch.randn(wanted.m, wanted.k), torch.randn(wanted.k, wanted.n).T
    else:
        a, b = torch.randn(wanted.m, wanted.k), torch.randn(wanted.n, wanted.k)
    times = []
    for _ in range(repeats):
        started = perf_counter()
        product(a, b)
        times.append(perf_counter() - started)
    return median(times)
