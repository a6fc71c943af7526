"""The bound of each trained model on fixed images with fixed noise."""

import pytest
import torch

import limner
from limner import data
from limner.training import named

GOLDEN = {
    "mnist-draw": 68.165,
    "mnist-draw-attention": 64.763,
    "mnist-draw-attention-32-steps": 64.624,
    "mnist-draw-attention-32-steps-longer": 64.576,
    "mnist-draw-attention-32-steps-static": 65.275,
    "mnist-draw-attention-64-steps": 69.605,
    "mnist-iwae-vae": 73.634,
    "mnist-ladder-vae": 65.285,
}
"""-ELBO in nats of the first 200 test digits of mnist-5k, thresholded, with noise of seed 0."""


@pytest.mark.parametrize("name", named.names())
@torch.no_grad()
def test_a_trained_model_keeps_its_bound(name):
    digits = data.load(data.DataConfig(name="mnist-5k", binarization="threshold"))
    x = data.frozen(digits, "test", "bernoulli")[:200]
    bound = limner.elbo(limner.load(name).infer(x, torch.Generator().manual_seed(0)))
    assert -bound.mean().item() == pytest.approx(GOLDEN[name], abs=0.01)
