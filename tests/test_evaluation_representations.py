"""Representations, probes and walks."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from limner import (
    ConvDRAWConfig,
    ConvLadderVAEConfig,
    DRAWConfig,
    InputError,
    LadderVAEConfig,
    VAEConfig,
)
from limner.evaluation.interpolation import (
    decode_noise,
    noise_of_images,
    noise_of_prior,
    walk,
)
from limner.evaluation.probes import (
    Labelled,
    principal_components,
    probe_representation,
    wilson_interval,
)
from limner.evaluation.representations import encode_images
from limner.models import build

CONFIGS = {
    "vae": VAEConfig(hidden_dims=(6,), latent_dim=3),
    "ladder": LadderVAEConfig(hidden_dims=(6, 5, 4), latent_dims=(4, 3, 2)),
    "draw": DRAWConfig(num_steps=3, hidden_dim=5, latent_dim=2),
    "draw-learned-prior": DRAWConfig(num_steps=4, hidden_dim=5, latent_dim=2, prior="learned"),
    "conv-draw": ConvDRAWConfig(num_steps=3, hidden_maps=3, latent_maps=2),
    "conv-ladder": ConvLadderVAEConfig(groups="1x1,2x1", hidden_maps=3, latent_maps=1),
}
models = pytest.mark.parametrize("kind", CONFIGS)


def make(kind):
    torch.manual_seed(0)
    model = build(CONFIGS[kind], (1, 3, 4)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def images(n=5):
    generator = torch.Generator().manual_seed(5)
    return torch.rand(n, 1, 3, 4, generator=generator, dtype=torch.float64).round()


@models
def test_codes_are_posterior_means_side_by_side(kind):
    model = make(kind)
    inference = model.infer(images(), trace=True, latents="mean")
    means = [latent.q.loc.flatten(1) for latent in inference.latents]
    done = []
    codes = encode_images(model, images(), report=lambda n, _: done.append(n))
    assert_close(codes, torch.cat(means, dim=1))
    assert_close(encode_images(model, images(), features=True), inference.features)
    last = model.num_groups
    chosen = torch.cat([means[last - 1], means[0]], dim=1)
    assert_close(encode_images(model, images(), groups=(last, 1)), chosen)
    assert done == [5]


def test_codes_do_not_depend_on_batches(monkeypatch):
    whole = encode_images(make("draw"), images())
    monkeypatch.setattr("limner.evaluation.representations.rows_that_fit", lambda model, trace: 2)
    assert_close(encode_images(make("draw"), images()), whole)


def test_groups_that_are_not_there_are_refused():
    with pytest.raises(InputError, match=r"no latent group 4.*groups 1 to 3"):
        encode_images(make("draw"), images(), groups=(4,))
    with pytest.raises(InputError, match="--groups or --features"):
        encode_images(make("draw"), images(), groups=(1,), features=True)


def test_wilson_interval_is_the_root_of_its_equation():
    """Its ends are the p at which |k/n - p| = z sqrt(p (1 - p) / n)."""
    for correct, total in ((3, 10), (97, 100), (480, 500)):
        for p in wilson_interval(correct, total):
            error = abs(correct / total - p) / math.sqrt(p * (1 - p) / total)
            assert error == pytest.approx(1.959964, abs=1e-6)
    assert wilson_interval(10, 10)[1] == pytest.approx(1)
    assert wilson_interval(0, 10)[0] == pytest.approx(0)


def labelled(n, dims=6, seed=0):
    """Three well separated classes in the first two dimensions, large noise in none."""
    random = np.random.default_rng(seed)
    labels = random.integers(3, size=n)
    vectors = 0.1 * random.normal(size=(n, dims))
    vectors[:, 0] += np.cos(2 * np.pi * labels / 3)
    vectors[:, 1] += np.sin(2 * np.pi * labels / 3)
    return Labelled(1000 * vectors + 50, labels)


def test_probes_find_classes_that_are_there_and_none_that_are_not():
    train, test = labelled(200), labelled(300, seed=1)
    found = probe_representation(train, test)
    assert found.dims == 6
    assert found.linear.value == found.neighbours.value == 1.0
    shuffled = train._replace(labels=np.random.default_rng(2).permutation(train.labels))
    chance = probe_representation(shuffled, test)
    assert chance.linear.value < 0.6
    assert chance.neighbours.value < 0.6
    assert chance.linear.low < chance.linear.value < chance.linear.high


def test_a_unit_that_says_nothing_is_not_blown_up():
    train, test = labelled(200), labelled(300, seed=1)
    random = np.random.default_rng(3)
    noisy = [
        part._replace(
            vectors=np.hstack([part.vectors, 1e-3 * random.normal(size=(len(part.labels), 50))])
        )
        for part in (train, test)
    ]
    assert probe_representation(*noisy).neighbours.value == 1.0


def test_principal_components_are_of_the_training_images_and_as_many_as_there_are():
    train, test = labelled(200), labelled(30, seed=1)
    small, large = (principal_components(train, test, dims) for dims in (2, 99))
    assert small[0].vectors.shape == (200, 2)
    assert large[1].vectors.shape == (30, 6)
    assert_close(small[0].vectors.mean(0), np.zeros(2), rtol=0, atol=1e-9)
    assert probe_representation(*small).linear.value == 1.0


def test_probes_refuse_one_class():
    one = labelled(20)._replace(labels=np.zeros(20, dtype=int))
    with pytest.raises(InputError, match="two classes"):
        probe_representation(one, one)


@models
def test_noise_of_images_decodes_to_their_reconstruction(kind):
    model = make(kind)
    inference = model.infer(images(), trace=True, latents="mean")
    drawn = decode_noise(model, noise_of_images(model, images()))
    assert_close(drawn, inference.observation.mean)


@models
@torch.no_grad()
def test_noise_of_the_prior_decodes_to_its_latents(kind):
    """e_t = (z_t - mu_p) / sigma_p of the latents that are generated from e."""
    model = make(kind)
    noise = noise_of_prior(model, 4, torch.Generator().manual_seed(0))
    parts = noise.split([math.prod(shape) for shape in model.latent_shapes], dim=1)
    given = [part.unflatten(1, s) for part, s in zip(parts, model.latent_shapes, strict=True)]
    generation = model.generate(4, noise=given)
    assert_close(decode_noise(model, noise), generation.images)
    traced = model.infer(images(4), trace=True, latents=generation.latents)
    back = torch.cat([((z - p.loc) / p.scale).flatten(1) for _, p, z in traced.latents], dim=1)
    assert_close(back, noise)


def test_a_walk_takes_one_pass_through_the_steps():
    """Not one for each step, as when p of every group was asked of an inference."""
    model = make("draw")
    noise, steps = noise_of_prior(model, 2, torch.Generator().manual_seed(0)), []
    model.heads.register_forward_hook(lambda *_: steps.append(1))
    decode_noise(model, noise)
    assert len(steps) == 1 + model.num_steps


def test_walks_are_straight_or_of_one_length():
    start, end = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0]], dtype=torch.float64)
    line, sphere = (walk(start, end, 7, kind) for kind in ("line", "sphere"))
    for path in (line, sphere):
        assert_close(path[0], start)
        assert_close(path[-1], end)
    assert_close(line.diff(dim=0), (end - start).expand(6, -1) / 6)
    assert_close(sphere.norm(dim=1), torch.full((7,), 3.0, dtype=torch.float64))
    angles = torch.arccos((sphere[:-1] * sphere[1:]).sum(1) / 9)
    assert_close(angles, torch.full((6,), math.pi / 12, dtype=torch.float64))
    assert_close(walk(start, start, 3, "sphere"), start.expand(3, -1))
