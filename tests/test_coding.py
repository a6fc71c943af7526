"""Bits-back coding: exact round trips, rates near the bound, and damage that is noticed."""

import math

import numpy as np
import pytest
import torch
from constriction import stream
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal
from torch.testing import assert_close

from limner import (
    ConvDRAWConfig,
    ConvLadderVAEConfig,
    ConvVAEConfig,
    DRAWConfig,
    InputError,
    LadderVAEConfig,
    VAEConfig,
    elbo,
)
from limner.coding import compress, decompress, sizes
from limner.coding.grids import Given, Taken, fitted
from limner.layers.observation import OBSERVATIONS
from limner.models import build

CONFIGS = {
    "vae": VAEConfig(hidden_dims=(6,), latent_dim=3),
    "ladder": LadderVAEConfig(hidden_dims=(6, 5), latent_dims=(3, 2)),
    "draw": DRAWConfig(num_steps=3, hidden_dim=5, latent_dim=2),
    "attention": DRAWConfig(
        num_steps=2, hidden_dim=5, latent_dim=2, attention="filterbank", prior="learned"
    ),
    "conv-vae": ConvVAEConfig(hidden_maps=(3,), latent_dim=2),
    "conv-ladder": ConvLadderVAEConfig(groups="1x1,2x1", hidden_maps=3, latent_maps=1),
    "conv-draw": ConvDRAWConfig(num_steps=2, hidden_maps=3, latent_maps=1, tied=False),
}
CODED = tuple(name for name in OBSERVATIONS if name != "gaussian")


def made(kind, observation="bernoulli", shape=(1, 4, 5), spread=0.3):
    torch.manual_seed(0)
    model = build(CONFIGS[kind].with_(observation=observation), shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=spread)
    return model


def images(n, observation="bernoulli", shape=(1, 4, 5), seed=1):
    levels = torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))
    return levels.round() if observation == "bernoulli" else (levels * 255).round() / 255


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("observation", CODED)
def test_images_come_back_exactly(kind, observation):
    shape = (3, 5, 2) if observation == "discretized_logistic_mixture" else (1, 4, 5)
    model, x = made(kind, observation, shape), images(70, observation, shape)
    threads = torch.get_num_threads()
    assert torch.equal(decompress(model, compress(model, x)), x)
    assert torch.get_num_threads() == threads


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(list(CONFIGS)),
    shape=st.tuples(*[st.integers(1, n) for n in (3, 7, 7)]),
    count=st.integers(1, 5),
)
def test_images_of_any_shape_come_back(kind, shape, count):
    model, x = made(kind, shape=shape), images(count, shape=shape)
    assert torch.equal(decompress(model, compress(model, x)), x)


@pytest.mark.parametrize("kind", ["vae", "ladder", "attention"])
def test_the_rate_is_the_bound(kind):
    model, x = made(kind), images(2000)
    with torch.no_grad():
        bound = -elbo(model.infer(x, torch.Generator().manual_seed(2)))
    rate = sizes(compress(model, x)).bits * math.log(2) / len(x)
    error = bound.std().item() / len(x) ** 0.5
    assert rate == pytest.approx(bound.mean().item(), abs=4 * error + 0.01 * bound.mean().item())


def test_numbers_on_a_grid_are_draws_from_the_posterior():
    q = Normal(torch.full((500, 4), 0.7), torch.full((500, 4), 0.2))
    p = Normal(torch.full((500, 4), -1.0), torch.full((500, 4), 2.0))
    grid = fitted(q, p)
    words = np.random.default_rng(0).integers(2**32, size=4000, dtype=np.uint32)
    stack = stream.stack.AnsCoder(words, True)
    taken = Taken([grid], stack)
    z = taken(0, q, p)
    assert z.mean().item() == pytest.approx(0.7, abs=4 * 0.2 / 2000**0.5)
    assert z.std().item() == pytest.approx(0.2, rel=0.08)
    again = Given([grid], taken.numbers)
    assert_close(again(0, q, p), z)
    again.put(stack)
    assert np.array_equal(stack.get_compressed(True), words)


@pytest.mark.parametrize("observation", CODED)
def test_masses_of_levels_sum_to_one_and_are_those_of_log_prob(observation):
    kind, shape = OBSERVATIONS[observation], (2, 1, 1)
    generator = torch.Generator().manual_seed(0)
    canvas = torch.randn(3, kind.maps(2), 1, 1, generator=generator, dtype=torch.float64)
    observed = kind(canvas)
    x = images(3, observation, shape).double()
    total = torch.zeros(3, dtype=torch.float64)
    for channel in range(2):
        masses = observed.log_masses(channel, x.unbind(1)).exp()
        assert_close(masses.sum(-1), torch.ones_like(masses[..., 0]))
        level = (x[:, channel] * (masses.shape[-1] - 1)).round().long()
        total += masses.gather(-1, level[..., None]).log().flatten(1).sum(1)
    assert_close(total, observed.log_prob(x))


def test_every_byte_counts():
    model, x = made("vae"), images(3)
    data = compress(model, x)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 + place % 255
        with pytest.raises(InputError):
            decompress(model, bytes(changed))
    for end in (0, 3, 40, len(data) - 1):
        with pytest.raises(InputError):
            decompress(model, data[:end])


def test_another_model_is_refused():
    data = compress(made("vae"), images(3))
    with pytest.raises(InputError, match="another model"):
        decompress(made("vae", spread=0.31), data)
    with pytest.raises(InputError, match="another model"):
        decompress(made("ladder"), data)


def test_what_cannot_be_coded_is_refused():
    with pytest.raises(InputError, match="no masses"):
        compress(made("vae", "gaussian"), images(2, "gaussian"))
    with pytest.raises(InputError, match="at least one"):
        compress(made("vae"), images(0))


def test_bits_are_counted():
    model, x = made("vae"), images(130)
    data = compress(model, x, about={"split": "test"})
    found = sizes(data)
    assert found.images == 130
    assert found.bits + found.initial + found.other == 8 * len(data)
    assert found.bits > 0
    assert found.initial > 0
