"""The floor: the matrix products that a training step of DRAW cannot avoid, each timed alone.

For every layer y = x W^T of the recurrence, at the shapes of one step: forward (x W^T), input
gradient (dy W) and weight gradient (dy^T x), each once per step. Products with
filters are not counted.

Training computes the weight gradients of several steps in one product, which can be faster. The
*gathered* floor does the same.
"""

import math
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from limner.cpu.products import add_outer, product
from limner.layers.gathered import ROWS
from limner.models import DRAW


class Product(NamedTuple):
    """C[m, n] = A[m, k] B[k, n], `times` times in a training step."""

    name: str
    m: int
    n: int
    k: int
    times: float


def products(model: DRAW, batch: int, gathered: bool = False) -> list[Product]:
    """The unavoidable products of one training step on `batch` images.

    Without attention x is the same at every step: the encoder's product with x is computed once,
    and has no input gradient.
    """
    config, steps = model.config, model.num_steps
    hidden, latent, pixels = config.hidden_dim, config.latent_dim, model.reader.glimpse_dim // 2
    whole = config.attention == "none"
    at_once = min(steps, math.ceil(ROWS / batch)) if gathered else 1
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
            Product(f"{name}, weight gradient", out, inputs, batch * at_once, steps / at_once),
        ]
    if whole:
        found += [
            Product("x to encoder, forward", batch, 4 * hidden, pixels, 1),
            Product("x to encoder, weight gradient", 4 * hidden, pixels, batch, 1),
        ]
    return found


def timed(wanted: Product, repeats: int = 9) -> float:
    """Median seconds of `repeats` products, computed as in training."""
    take: Callable[[Tensor, Tensor], Tensor] = product
    if wanted.name.endswith("weight gradient"):
        a, b = torch.randn(wanted.k, wanted.m), torch.randn(wanted.k, wanted.n)
        take = _outer
    elif wanted.name.endswith("input gradient"):
        a, b = torch.randn(wanted.m, wanted.k), torch.randn(wanted.k, wanted.n).T
    else:
        a, b = torch.randn(wanted.m, wanted.k), torch.randn(wanted.n, wanted.k)
    times = []
    for _ in range(repeats):
        started = perf_counter()
        take(a, b)
        times.append(perf_counter() - started)
    return median(times)


def _outer(d: Tensor, x: Tensor) -> Tensor:
    return add_outer(None, [d], [x])
