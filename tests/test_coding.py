"""Bits-back coding: exact round trips, rates near the bound, and damage that is noticed."""

import math
import sys
from runpy import run_path

import numpy as np
import pytest
import torch
from constriction import stream
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal
from torch.testing import assert_close

import limner
from limner import (
    VAE,
    ConvDRAWConfig,
    ConvLadderVAEConfig,
    ConvVAEConfig,
    DRAWConfig,
    InputError,
    LadderVAEConfig,
    VAEConfig,
    elbo,
)
from limner.coding import codec, coder, compress, container, decompress, depth, pixels, sizes
from limner.coding.container import CHECKSUM, Header, packed, unpacked
from limner.coding.grids import MOST, Given, Grid, Taken, fitted
from limner.layers.observation import OBSERVATIONS
from limner.models import build
from limner.models.draws import Draws

CONFIGS = {
    "vae": VAEConfig(hidden_dims=(6,), latent_dim=3),
    "ladder": LadderVAEConfig(hidden_dims=(6, 5), latent_dims=(3, 2)),
    "draw": DRAWConfig(num_steps=3, hidden_dim=5, latent_dim=2),
    "attention": DRAWConfig(
        num_steps=2, hidden_dim=5, latent_dim=2, attention="filterbank", prior="learned"
    ),
    "conv-vae": ConvVAEConfig(hidden_maps=(3,), latent_dim=2),
    "conv-ladder": ConvLadderVAEConfig(groups="1x1,2x1", hidden_maps=3, latent_maps=1),
    "conv-ladder-learned": ConvLadderVAEConfig(
        groups="1x1,2x1", hidden_maps=3, latent_maps=1, posterior="learned"
    ),
    "conv-draw": ConvDRAWConfig(num_steps=2, hidden_maps=3, latent_maps=1),
    "conv-draw-untied": ConvDRAWConfig(num_steps=2, hidden_maps=3, latent_maps=1, tied=False),
}
CODED = tuple(name for name in OBSERVATIONS if name != "gaussian")
SHAPE = (1, 4, 5)


def made(kind, observation="bernoulli", shape=SHAPE, spread=0.3):
    torch.manual_seed(0)
    model = build(CONFIGS[kind].with_(observation=observation), shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=spread)
    return model


def images(n, observation="bernoulli", shape=SHAPE, seed=1):
    levels = torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))
    return levels.round() if observation == "bernoulli" else (levels * 255).round() / 255


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("observation", CODED)
def test_images_come_back_exactly(kind, observation):
    shape = (3, 5, 2) if observation == "discretized_logistic_mixture" else SHAPE
    model, x = made(kind, observation, shape), images(5, observation, shape)
    assert torch.equal(decompress(model, compress(model, x)), x)


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(list(CONFIGS)),
    observation=st.sampled_from(CODED),
    shape=st.tuples(*[st.integers(1, n) for n in (3, 7, 7)]),
    count=st.integers(1, 3),
)
def test_images_of_any_shape_come_back(kind, observation, shape, count):
    model, x = made(kind, observation, shape), images(count, observation, shape)
    assert torch.equal(decompress(model, compress(model, x)), x)


def test_batches_grow_and_random_words_are_few():
    model, x = made("vae"), images(400)
    data = compress(model, x)
    header, words = unpacked(data)
    assert header.batches[0] == codec.FIRST
    assert max(header.batches) > 2 * codec.FIRST
    assert sum(header.batches) == 400
    assert header.initial < len(words) / 4
    assert torch.equal(decompress(model, data), x)


def test_a_model_in_double_with_another_number_of_steps_stays_as_it_is():
    model = made("draw").double().train()
    model.num_steps = 5
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = images(5).double()
    again = decompress(model, compress(model, x))
    assert torch.equal(again, x)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.num_steps = 4
    with pytest.raises(InputError, match="another model"):
        decompress(model, compress(made("draw"), images(5)))


@pytest.mark.parametrize(("kind", "count"), [("vae", 2000), ("ladder", 1000), ("attention", 400)])
def test_the_rate_is_the_bound(kind, count):
    model, x = made(kind), images(count)
    with torch.no_grad():
        bound = -elbo(model.infer(x, torch.Generator().manual_seed(2)))
    rate = sizes(compress(model, x)).bits * math.log(2) / len(x)
    error = bound.std().item() / len(x) ** 0.5
    assert rate == pytest.approx(bound.mean().item(), abs=4 * error + 0.01 * bound.mean().item())


def test_the_bound_of_the_z_that_are_coded_is_that_of_the_model():
    model, x = made("ladder"), images(300)
    found = codec.coded(model, x)
    with torch.no_grad():
        bound = elbo(model.infer(x, torch.Generator().manual_seed(2)))
    assert found.elbo.shape == (300,)
    error = (found.elbo - bound).std().item() / 300**0.5
    assert found.elbo.mean().item() == pytest.approx(bound.mean().item(), abs=4 * error)


# Arithmetic that rounds differently


def perturbed(monkeypatch, size):
    """Decoding whose weights are off by a factor of about 1 + size."""
    exact = pixels.in_double

    def changed(model):
        copy = exact(model)
        noise = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in copy.parameters():
                parameter.mul_(1 + size * torch.randn(parameter.shape, generator=noise))
        return copy

    monkeypatch.setattr(pixels, "in_double", changed)


@pytest.mark.parametrize("kind", ["ladder", "attention", "conv-ladder"])
def test_rounding_as_on_another_machine_changes_nothing(kind, monkeypatch):
    model, x = made(kind), images(60)
    data = compress(model, x)
    perturbed(monkeypatch, 3e-8)
    assert torch.equal(decompress(model, data), x)


@pytest.mark.parametrize("kind", ["vae", "attention"])
def test_coarser_rounding_is_noticed(kind, monkeypatch):
    model = made(kind)
    data = compress(model, images(60))
    perturbed(monkeypatch, 1e-2)
    with pytest.raises(InputError, match="rounds differently"):
        decompress(model, data)


# Grids and masses


def test_numbers_on_a_grid_are_draws_from_the_posterior():
    q = Normal(torch.full((500, 4), 0.7).double(), torch.full((500, 4), 0.2).double())
    p = Normal(torch.full((500, 4), -1.0).double(), torch.full((500, 4), 2.0).double())
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


@given(
    mu=st.floats(-1e4, 1e4),
    log2_sigma=st.floats(-40, 20),
    log2_step=st.integers(-18, 0),
    reach=st.sampled_from([1, 8, 100, MOST]),
)
@settings(max_examples=100, deadline=None)
def test_any_posterior_has_numbers_that_the_prior_has_too(mu, log2_sigma, log2_step, reach):
    grid = Grid((log2_step,), reach)
    q = Normal(torch.full((3, 1), mu).double(), torch.full((3, 1), 2.0**log2_sigma).double())
    p = Normal(torch.zeros(3, 1).double(), torch.ones(3, 1).double())
    words = np.random.default_rng(0).integers(2**32, size=20, dtype=np.uint32)
    stack = stream.stack.AnsCoder(words, True)
    taken = Taken([grid], stack)
    taken(0, q, p)
    given_ = Given([grid], taken.numbers)
    given_(0, p)
    given_.put(stack)  # by the prior
    again = Taken([grid], stack)
    again(0, p)
    given_ = Given([grid], again.numbers)
    given_(0, q, p)
    given_.put(stack)  # by the posterior
    assert np.array_equal(stack.get_compressed(True), words)


def test_narrow_posteriors_far_from_the_prior_are_reached():
    q = Normal(torch.full((8, 2), 30.0).double(), torch.full((8, 2), 1e-3).double())
    p = Normal(torch.zeros(8, 2).double(), torch.ones(8, 2).double())
    words = np.random.default_rng(0).integers(2**32, size=50, dtype=np.uint32)
    z = Taken([fitted(q, p)], stream.stack.AnsCoder(words, True))(0, q, p)
    assert_close(z, q.loc, rtol=0, atol=7e-3)


def test_a_posterior_that_is_not_finite_is_refused():
    model = made("vae")
    model.posterior.linear.weight.data[0] = math.nan
    with pytest.raises(InputError, match="not finite"):
        compress(model, images(3))


def test_pixels_that_have_no_mass_are_refused():
    model = made("vae")
    model.output.bias.data[0] = math.nan
    with pytest.raises(InputError, match="not finite"):
        compress(model, images(3))


class Silent(VAE):
    """A VAE that does not say its prior."""

    def _infer(self, x, draws, divergence, trace):
        return super()._infer(x, Priorless(draws), divergence, trace)


class Priorless(Draws):
    def __init__(self, draws):
        super().__init__()
        self.draws = draws

    def __call__(self, group, distribution, prior=None):
        return self.draws(group, distribution)


@pytest.mark.parametrize("keep", [None, 1])
def test_a_model_that_does_not_say_its_prior_is_refused(keep):
    model = Silent(CONFIGS["vae"], SHAPE).eval()
    with pytest.raises(InputError, match=r"draws\(group, q, p\)"):
        compress(model, images(3), keep=keep)


@pytest.mark.parametrize("observation", CODED)
def test_masses_of_levels_sum_to_one_and_are_those_of_log_prob(observation):
    kind, shape = OBSERVATIONS[observation], (2, 1, 1)
    generator = torch.Generator().manual_seed(0)
    canvas = torch.randn(3, kind.maps(2), 1, 1, generator=generator, dtype=torch.float64)
    observed = kind(canvas)
    x = images(3, observation, shape).double()
    total = torch.zeros(3, dtype=torch.float64)
    for channel in range(2):
        log_masses = observed.log_masses(channel, x.unbind(1))
        assert_close(log_masses.exp().sum(-1), torch.ones_like(log_masses[..., 0]))
        level = (x[:, channel] * (log_masses.shape[-1] - 1)).round().long()
        total += log_masses.gather(-1, level[..., None]).flatten(1).sum(1)
    assert_close(total, observed.log_prob(x))


# Lossy by depth


def test_a_group_that_is_kept_is_as_exact_as_a_draw_and_costs_little_more_than_its_kl():
    model, x = made("vae"), images(400)
    with torch.no_grad():
        model.posterior.linear.weight[:3] *= 3
        model.posterior.linear.weight[3:] = 0.0
        model.posterior.linear.bias[3:] = -4.0  # log sigma
        inference = model.infer(x, latents="mean", trace=True)
        exact = pixels.in_double(model)
        (steps,), (numbers,) = depth.nearest(exact, pixels.levels_of(model, x), 1)
    (q, p, _) = inference.latents[0]
    error = (depth.placed(numbers, steps, p) - q.loc) / q.scale
    assert 2**-0.5 < error.square().mean().sqrt() < 2**0.5  # steps are powers of two
    nats = 32 * len(unpacked(compress(model, x, keep=1))[1]) * math.log(2) / len(x)
    shares = [np.unique(column, return_counts=True)[1] / len(x) for column in numbers.T]
    entropy = sum(-(share * np.log(share)).sum() for share in shares)
    assert entropy > 5
    assert entropy - 0.1 < nats < entropy + 3
    assert nats < inference.kl.sum(1).mean().item() + 3 * (0.18 + math.log(2) / 2)


@pytest.mark.parametrize("kind", ["ladder", "draw", "conv-ladder", "conv-draw"])
def test_groups_that_are_not_used_cost_nothing(kind):
    model, x = made(kind, spread=0.0), images(100)
    size = sizes(compress(model, x, keep=model.num_groups))
    assert size.bits < 0.5 * size.images


def test_the_first_groups_are_those_that_the_model_draws_first():
    model, x = made("ladder", spread=1.0), images(40)
    header, _ = unpacked(compress(model, x, keep=1))
    assert [len(group[0]) for group in header.kept] == [2]  # the top of the ladder
    points = depth.curve(model, x, [1, 2])
    assert points[0].bits < points[1].bits
    for point in points:
        again = decompress(model, compress(model, x, keep=point.kept))
        assert_close(again, point.images.float())


def test_groups_that_are_not_stored_are_means_of_the_prior():
    model, x = made("draw", spread=1.0), images(6)
    found = decompress(model, compress(model, x, keep=2))
    exact, p = pixels.in_double(model), Normal(torch.zeros(6, 2), torch.ones(6, 2))
    with torch.no_grad():
        steps, numbers = depth.nearest(exact, pixels.levels_of(model, x), 2)
    zs = [depth.placed(*each, p).float() for each in zip(numbers, steps, strict=True)]
    assert_close(found, model.generate(6, latents=[*zs, "mean"]).images)


@pytest.mark.parametrize("keep", [0, -1, 4])
def test_a_number_of_groups_that_the_model_does_not_have_is_refused(keep):
    with pytest.raises(InputError, match="can keep are 1 to 3"):
        compress(made("draw"), images(2), keep=keep)


# The file


@pytest.mark.parametrize("keep", [None, 1])
def test_every_byte_counts(keep):
    model, x = made("vae"), images(3)
    data = compress(model, x, keep=keep)
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


def test_a_later_version_is_refused(monkeypatch):
    monkeypatch.setattr(container, "VERSION", 2)
    data = compress(made("vae"), images(1))
    monkeypatch.undo()
    with pytest.raises(InputError, match="version 2"):
        decompress(made("vae"), data)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": 2**30},
        {"images": 4},
        {"batches": (2, 2)},
        {"shape": (1, 5, 4)},
        {"grids": ()},
        {"grids": (((0, 0), 8),)},
        {"grids": (((0, 0, 0), 8),) * 2},
        {"grids": (), "batches": (), "kept": (((0, 0), (0, 0), 3),)},
        {"grids": (), "batches": (), "kept": (((0, 0, 0), (0, 0, 0), 3),), "images": 2**31 - 1},
    ],
)
def test_headers_that_limner_does_not_write_are_refused_before_memory_is_taken(changes):
    model = made("vae")
    header, words = unpacked(compress(model, images(3)))
    with pytest.raises(InputError, match=r"damaged|memory"):
        decompress(model, packed(Header(**{**dict(header), **changes}), words))


def test_a_stack_that_is_none_is_refused():
    model = made("vae")
    header, words = unpacked(compress(model, images(3)))
    for wrong in (words[:0], words[:-1], np.append(words, np.uint32(0)), words[1:]):
        with pytest.raises(InputError, match=r"damaged|rounds differently"):
            decompress(model, packed(header, wrong))


def test_a_header_that_unpacks_to_much_is_refused():
    import hashlib
    import zlib

    text = zlib.compress(b'{"model": "' + b"a" * 2**23)
    body = container._FIXED.pack(container.MAGIC, container.VERSION, len(text)) + text
    data = body + hashlib.blake2b(body, digest_size=CHECKSUM).digest()
    with pytest.raises(InputError, match="damaged"):
        unpacked(data)


def test_what_cannot_be_coded_is_refused():
    with pytest.raises(InputError, match="no masses"):
        compress(made("vae", "gaussian"), images(2, "gaussian"))
    with pytest.raises(InputError, match="at least one"):
        compress(made("vae"), images(0))
    with pytest.raises(InputError):
        compress(made("vae"), images(2, "discretized_logistic"))


def test_a_missing_coder_is_named_when_it_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    missing = run_path(coder.__file__)
    assert missing["stream"] is None
    with pytest.raises(InputError, match="pip install constriction"):
        missing["require_coder"]()
    monkeypatch.setattr(coder, "stream", None)
    with pytest.raises(InputError, match="pip install constriction"):
        compress(made("vae"), images(2))


def test_what_would_not_come_back_is_refused_before_it_is_coded():
    levels = made("vae", "discretized_logistic")
    with pytest.raises(InputError, match="whole levels, k / 255"):
        compress(levels, images(2, "discretized_logistic") + 0.001)
    model, x = made("vae"), images(2)
    for about, words in (({"a": object()}, "form in JSON"), ({"a": "x" * 2**22}, "give less")):
        with pytest.raises(InputError, match=words):
            compress(model, x, about=about)


@pytest.mark.usefixtures("unchecked")
def test_what_is_not_bytes_is_refused():
    with pytest.raises(InputError, match="are bytes; got NoneType"):
        limner.decompress(made("vae"), None)


def test_the_digest_knows_every_setting():
    one = made("vae")
    other = type(one)(one.config.with_(activation="tanh"), one.image_shape)
    other.load_state_dict(one.state_dict())
    with pytest.raises(InputError, match="another model"):
        limner.decompress(other.eval(), limner.compress(one, images(2)))


def test_a_header_cannot_ask_for_more_random_words_than_any_file_has():
    model = made("vae")
    header, words = unpacked(limner.compress(model, images(2)))
    with pytest.raises(InputError, match="damaged"):
        limner.decompress(model, packed(header.with_(initial=2**30), words))


def test_means_that_are_not_finite_are_refused():
    model = made("vae")
    file = limner.compress(model, images(2), keep=1)
    with torch.no_grad():
        model._output_bias.fill_(torch.nan)
    header, words = unpacked(file)
    again = packed(header.with_(model=codec.digest(model)), words)
    with pytest.raises(InputError, match="not finite"):
        limner.decompress(model, again)


def test_bits_are_counted():
    model, x, done = made("vae"), images(130), []
    data = limner.compress(model, x, about={"split": "test"}, report=lambda n, _: done.append(n))
    found = sizes(data)
    assert found.images == 130
    assert found.bits + found.initial + found.other == 8 * len(data)
    assert found.bits > 0
    assert found.initial > 0
    assert done == sorted(done)
    assert done[-1] == 130
    assert unpacked(data)[0].about == {"split": "test"}
    again = []
    limner.decompress(model, data, report=lambda n, _: again.append(n))
    assert again[-1] == 130
