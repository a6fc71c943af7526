"""The floor: matrix products that a training step of DRAW cannot avoid, each timed alone.

For every layer y = x W^T of the recurrence, at the shapes of one step: forward (x W^T), input
gradient (dy W) and weight gradient (dy^T x), once a step each. Filter products are not counted.
"""

from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch

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


def timed(product: Product, repeats: int = 9) -> float:
    """Seconds of one such product, the median of `repeats`, in the layout that training has it."""
    if product.name.endswith("weight gradient"):
        a = torch.randn(product.k, product.m).T
        b = torch.randn(product.k, product.n)
    elif product.name.endswith("input gradient"):
        a, b = torch.randn(product.m, product.k), torch.randn(product.k, product.n)
    else:
        a, b = torch.randn(product.m, product.k), torch.randn(product.n, product.k).T
    out = torch.empty(product.m, product.n)
    times = []
    for _ in range(repeats):
        started = perf_counter()
        torch.mm(a, b, out=out)
        times.append(perf_counter() - started)
    return median(times)
