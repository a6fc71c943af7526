"""One test for each mistake that costs other implementations 1 to 40 nats."""

import math

import pytest
import torch
from torch.testing import assert_close

from limner import (
    DRAW,
    VAE,
    DRAWConfig,
    InputError,
    VAEConfig,
    data,
    elbo,
    importance_weighted_bound,
)
from limner.data import mnist
from limner.evaluation import evaluate_model, results_of
from limner.layers import attention

T, LATENT, SHAPE = 4, 3, (1, 6, 5)


def draw(**settings):
    """A tiny DRAW away from where it starts."""
    torch.manual_seed(0)
    defaults = {"num_steps": T, "hidden_dim": 5, "latent_dim": LATENT, "attention": "filterbank"}
    model = DRAW(DRAWConfig(**(defaults | settings)), SHAPE).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


@pytest.fixture
def x(generator):
    return torch.rand(3, *SHAPE, generator=generator, dtype=torch.float64).round()


def grey(binarization):
    """Forty copies of an image of grey levels as every split."""
    levels = torch.arange(100, 160, dtype=torch.uint8).view(1, 1, 6, 10).repeat(40, 1, 1, 1)
    images = data.Images(levels, torch.zeros(40, dtype=torch.int64))
    return data.Dataset("grey", binarization, 0, (1, 6, 10), images, images, images)


@pytest.mark.parametrize(("binarization", "redrawn"), [("dynamic", True), ("static", False)])
def test_dynamic_pixels_are_redrawn_every_epoch_and_static_ones_never(binarization, redrawn):
    dataset = grey(binarization)
    batches = data.TrainingBatches(dataset, "bernoulli", 40, seed=0)
    epochs = [batches.batch(epoch, 0).flatten(1) for epoch in (0, 1)]
    drawn = [{tuple(row) for row in epoch.tolist()} for epoch in epochs]
    assert (drawn[0] != drawn[1]) == redrawn
    test = data.frozen(dataset, "test", "bernoulli")
    assert torch.equal(test, data.frozen(dataset, "test", "bernoulli"))


@torch.no_grad()
def test_the_importance_weighted_bound_is_not_the_elbo(x, generator):
    torch.manual_seed(0)
    model = VAE(VAEConfig(hidden_dims=(6,), latent_dim=4), SHAPE).double().eval()
    model.posterior.linear.weight.mul_(6)  # far from the exact posterior
    bound = importance_weighted_bound(model, x, 200, generator=generator)
    elbos = [elbo(model.infer(x, generator)) for _ in range(200)]
    assert (bound - torch.stack(elbos).mean(0) > 0.5).all()
    results = results_of(evaluate_model(model, x, num_samples=50), {})
    assert results["iw_bound"]["num_samples"] == 50
    assert results["iw_bound"]["mean"] > results["elbo"]["mean"] + 0.5


def test_mnist_is_split_in_50_10_10_and_no_image_is_in_two_splits():
    assert mnist.MNIST.validation == 10_000
    dataset = data.load(data.DataConfig(name="digits"))
    rows = torch.cat([dataset.split(split).levels.flatten(1) for split in data.SPLITS])
    assert len(rows.unique(dim=0)) == len(rows)


@torch.no_grad()
def test_pixels_and_latent_dimensions_are_summed():
    torch.manual_seed(0)
    model = VAE(VAEConfig(hidden_dims=(), latent_dim=7), SHAPE)
    for parameter in model.parameters():
        parameter.zero_()
    model.posterior.linear.bias[:7] = 1.0  # q = N(1, 1)
    inference = model.infer(torch.ones(2, *SHAPE))
    assert_close(inference.kl, torch.full((2, 1), 7 / 2))
    assert_close(inference.log_likelihood, torch.full((2,), -math.prod(SHAPE) * math.log(2)))


def test_each_step_has_noise_of_its_own(x):
    latents = draw().infer(x, trace=True).latents
    noise = torch.stack([(z - q.loc) / q.scale for q, _, z in latents])
    for t in range(1, T):
        assert (noise[t] - noise[0]).abs().min() > 1e-6


@pytest.mark.parametrize(("steps", "latent_dim"), [(1, 3), (4, 3), (3, 3), (4, 1)])
def test_the_kl_of_a_posterior_that_is_the_prior_is_zero(x, steps, latent_dim):
    model = draw(num_steps=steps, latent_dim=latent_dim)
    for parameter in model.posterior_head.parameters():
        torch.nn.init.zeros_(parameter)
    assert_close(model.infer(x).kl, torch.zeros(3, steps, dtype=torch.float64))


@pytest.mark.parametrize("N", [1, 2, 3, 4])
def test_a_centred_window_is_centred(N):
    """With 0-based offsets it would lie a stride away."""
    params = torch.tensor([0.0, 0.0, -4.0, math.log(0.5), 0.0], dtype=torch.float64)
    F_y, F_x = attention.filterbank(attention.window(params, N, (9, 7)), N, (9, 7))
    for F in (F_y, F_x):
        assert_close(F, F.flip(0, 1))


def test_filters_are_gaussians_of_variance_sigma_squared():
    params = torch.tensor([0.0, 0.0, math.log(3.0), 0.0, 0.0], dtype=torch.float64)
    F_y, _ = attention.filterbank(attention.window(params, 1, (9, 9)), 1, (9, 9))
    ratio = F_y[0] / F_y[0, 4]  # the middle is pixel 5
    assert_close(ratio.log(), -((torch.arange(1.0, 10.0) - 5) ** 2).double() / (2 * 3.0))


def test_every_image_has_windows_of_its_own_and_they_learn(x):
    model = draw()
    inference = model.infer(x, trace=True)
    for window in inference.windows:
        for values in (window.center[-1, :, 0], *(field[-1] for field in window[1:])):
            assert len(values.unique()) == len(x)
    elbo(inference).sum().backward()
    assert (model.heads.weight.grad[-10:].abs().sum(1) > 0).all()


def test_each_filter_is_normalised_by_itself():
    params = torch.tensor([0.3, -0.5, 0.0, 0.0, 0.0], dtype=torch.float64)
    for F in attention.filterbank(attention.window(params, 4, (6, 5)), 4, (6, 5)):
        assert_close(F.sum(1), torch.ones(4, dtype=torch.float64))


@torch.no_grad()
def test_reading_and_writing_have_parameters_of_their_own(x):
    read, written = draw(read_size=3, write_size=3).infer(x, trace=True).windows
    for read_field, written_field in zip(read, written, strict=True):
        assert (read_field[1:] - written_field[:-1]).abs().min() > 1e-6  # both of h_dec_t


@torch.no_grad()
def test_generation_draws_a_fresh_z_at_every_step():
    model, seed = draw(), 3
    source = torch.Generator().manual_seed(seed)
    z = [torch.empty(2, LATENT, dtype=torch.float64).normal_(generator=source) for _ in range(T)]
    drawn = model.generate(2, torch.Generator().manual_seed(seed)).canvases
    assert_close(drawn, model.generate(2, latents=z).canvases)
    assert not torch.allclose(drawn, model.generate(2, latents=z[:1] * T).canvases)


def test_a_single_filter_has_a_stride(x):
    model = draw(read_size=1, write_size=1)
    inference = model.infer(x, trace=True)
    elbo(inference).sum().backward()
    assert inference.windows.write.stride.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_grey_pixels_and_a_bernoulli_are_refused():
    with pytest.raises(InputError, match="binary"):
        data.TrainingBatches(grey("none"), "bernoulli", 8, seed=0)
    with pytest.raises(InputError, match="binary"):
        data.frozen(grey("none"), "test", "bernoulli")


@pytest.mark.parametrize("log_sigma", [-1e4, 1e4])
def test_no_log_sigma_overflows(x, log_sigma):
    model = draw(prior="learned").float()
    for head in (model.posterior_head, model.prior_head):
        torch.nn.init.constant_(head.linear.bias[LATENT:], log_sigma)
    bound = elbo(model.infer(x.float()))
    bound.sum().backward()
    assert bound.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
