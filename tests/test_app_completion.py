"""The pseudo-Gibbs chain: known pixels stay; an exact posterior gives exact samples."""

from typing import NamedTuple, get_args

import pytest
import torch
from torch.distributions import Normal

from limner.errors import InputError
from limner.evaluation.completion import complete
from limner.layers.gaussian import StandardNormal
from limner.layers.names import ObservationName
from limner.models import DRAWConfig, LadderVAEConfig, VAEConfig, build
from limner.models.base import (
    Generation,
    Inference,
    Latent,
    LatentVariableModel,
    ModelConfig,
)

SIGMA, WEIGHTS, BIAS = 0.4, (1.0, -0.8), (0.3, -0.5)


class Pixels(NamedTuple):
    """p(x | z) = N(mean, SIGMA^2)."""

    mean: torch.Tensor

    def sample(self, generator=None):
        return self.mean + SIGMA * torch.empty_like(self.mean).normal_(generator=generator)


class OneLatent(LatentVariableModel):
    """z ~ N(0, 1), x = w z + b + noise, two pixels; q is the exact posterior."""

    latent_shapes = [(1,)]  # noqa: RUF012

    def __init__(self):
        super().__init__(ModelConfig(kind="known", observation="gaussian"), (1, 1, 2))
        self.w, self.b = (torch.tensor(each, dtype=torch.float64) for each in (WEIGHTS, BIAS))

    def _infer(self, x, draws, divergence, trace):
        precision = 1 + self.w.square().sum() / SIGMA**2
        mu = (x.flatten(1) - self.b) @ self.w / SIGMA**2 / precision
        q = Normal(mu[:, None], precision.rsqrt().expand(len(x), 1), validate_args=False)
        z = draws(0, q)
        latent = Latent(q, StandardNormal(q.loc.shape, like=q.loc), z)
        return Inference(q.loc, q.loc[:, 0], [latent], self.pixels(z))

    def _generate(self, n, draws, trace):
        z = draws(0, StandardNormal((n, 1), like=self.w))
        return Generation(self.pixels(z).mean, self.pixels(z))

    def check_images(self, x):
        """Any real number may be a pixel."""

    def pixels(self, z):
        return Pixels((z * self.w + self.b)[:, None, None])

    @property
    def _output_bias(self):
        raise NotImplementedError


def test_with_an_exact_posterior_the_chain_draws_from_the_conditional(generator):
    """p(x_2 | x_1) of two jointly Gaussian pixels, in mean and in variance."""
    n, (w_1, w_2), (b_1, b_2), known = 20_000, WEIGHTS, BIAS, 1.1
    x = torch.tensor([known, 99.0], dtype=torch.float64).expand(n, 1, 1, 2)
    mask = torch.tensor([True, False])[None, None, None]
    chain = complete(OneLatent().double(), x, mask, 12, generator)
    drawn = chain.images[-1, :, 0, 0, 1]
    slope = w_1 * w_2 / (w_1**2 + SIGMA**2)
    mean = b_2 + slope * (known - b_1)
    variance = SIGMA**2 + w_2**2 - slope * w_1 * w_2
    assert abs(drawn.mean() - mean) < 5 * (variance / n) ** 0.5
    assert abs(drawn.var() - variance) < 5 * variance * (2 / n) ** 0.5
    assert (chain.images[..., 0] == known).all()


@pytest.mark.parametrize("observation", get_args(ObservationName))
@pytest.mark.parametrize(
    "config",
    [
        VAEConfig(hidden_dims=(6,), latent_dim=2),
        LadderVAEConfig(hidden_dims=(6, 5), latent_dims=(3, 2)),
        DRAWConfig(num_steps=3, attention="filterbank", hidden_dim=5, latent_dim=2),
    ],
    ids=lambda config: config.kind,
)
def test_known_pixels_stay_and_missing_ones_say_nothing(config, observation):
    model = build(config.with_(observation=observation), (3, 6, 5)).eval()
    x = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(1)).round()
    known = torch.zeros(1, 1, 6, 5, dtype=torch.bool)
    known[..., :3, :] = True

    def run(images):
        return complete(model, images, known, 3, torch.Generator().manual_seed(0))

    chain, other = run(x), run(torch.where(known, x, 1 - x))
    for field, same in zip(chain, other, strict=True):
        assert field.shape == (3, 2, 3, 6, 5)
        assert torch.equal(field[..., :3, :], x[None, ..., :3, :].expand(3, -1, -1, -1, -1))
        assert torch.equal(field, same)
        assert field.min() >= 0
        assert field.max() <= 1


def test_a_trained_model_completes_what_it_knows():
    """Images of two kinds, left and right halves alike: half an image tells the other half."""
    torch.manual_seed(0)
    sides = torch.eye(2).repeat_interleave(3, 1)[:, None, :, None].expand(2, 1, 6, 6)
    model = build(VAEConfig(hidden_dims=(16,), latent_dim=2), (1, 6, 6))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        inference = model.infer(sides.repeat(16, 1, 1, 1))
        (inference.kl.sum(1) - inference.log_likelihood).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    known = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    known[..., 4:] = False
    x = sides.repeat(50, 1, 1, 1)
    chain = complete(model.eval(), x, known, 10, torch.Generator().manual_seed(0))
    wrong = (chain.images - x).abs()[..., 4:].mean((1, 2, 3, 4))
    assert wrong[-1] < 0.05
    assert wrong[-1] < wrong[0]


def test_a_chain_has_a_round():
    model = build(VAEConfig(hidden_dims=(4,), latent_dim=2), (1, 4, 4))
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(InputError, match="at least one round"):
        complete(model, x, x.bool(), 0)
