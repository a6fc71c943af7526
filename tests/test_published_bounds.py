"""The bounds of the models that come with Limner do not change when the code does."""

import pytest
import torch

import limner
from limner import data
from limner.training import named

ELBO = {
    "mnist-draw": -86.12854,
    "mnist-draw-attention": -83.82512,
    "mnist-draw-attention-32-steps": -83.84888,
    "mnist-draw-attention-32-steps-longer": -83.81605,
    "mnist-draw-attention-32-steps-static": -84.15742,
    "mnist-draw-attention-64-steps": -87.97840,
    "mnist-iwae-vae": -90.52911,
    "mnist-ladder-vae": -83.86695,
}
"""Mean ELBO in nats of the first 200 test images of `mnist-5k`; the noise is drawn with seed 0.

Measured at commit 9c73331 with torch 2.13.0 on an AMD EPYC with AVX2.
"""


@pytest.fixture(scope="module")
def x():
    return data.frozen(data.load(data.DataConfig(name="mnist-5k")), "test", "bernoulli")[:200]


def test_every_published_model_is_here():
    assert set(ELBO) == set(named.names())


@pytest.mark.parametrize("name", ELBO)
@torch.no_grad()
def test_a_published_model_keeps_its_bound(name, x):
    bound = limner.elbo(limner.load(name).infer(x, torch.Generator().manual_seed(0)))
    assert bound.double().mean().item() == pytest.approx(ELBO[name], abs=1e-3)
