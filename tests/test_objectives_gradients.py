"""Properties of the gradient estimators by theory: bias, variance and signal-to-noise ratio."""

import pytest
import torch

from limner import DRAWConfig, LadderVAEConfig, VAEConfig
from limner.models import build
from limner.objectives import objective
from linear_gaussian import LinearGaussian, TwoGroups

ROWS = 20_000
SHIFTS = {LinearGaussian: slice(0, 2), TwoGroups: slice(1, 3)}
"""Columns of the gradient that belong to inference parameters alone."""
known = pytest.mark.parametrize("make", [LinearGaussian, TwoGroups])
CONFIGS = {
    "vae": VAEConfig(hidden_dims=(5,), latent_dim=2),
    "ladder": LadderVAEConfig(hidden_dims=(5, 4), latent_dims=(3, 2)),
    "draw": DRAWConfig(num_steps=3, hidden_dim=4, latent_dim=2),
    "draw-attention": DRAWConfig(
        num_steps=2,
        hidden_dim=4,
        latent_dim=2,
        attention="filterbank",
        write_size=2,
        prior="learned",
    ),
}


def gradients(model, x, seed=0, **options):
    """A gradient of every image by every parameter, side by side, [rows, all]."""
    terms = objective(model, x, generator=torch.Generator().manual_seed(seed), **options)
    found = torch.autograd.grad(terms.value.sum(), list(model.parameters()))
    return torch.cat(found, dim=1)


def inexact(make, rows=ROWS, shift=0.3):
    """A model with a row of parameters an image, whose posterior is off; and images."""
    model = make(rows=rows)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in ("shift", "shifts", "log_sigma"):
                parameter.add_(shift)
    return model, torch.full((rows, *model.image_shape), 0.8, dtype=torch.float64)


def z_scores(a, b):
    """How many standard errors the means of two estimators are apart, for each parameter."""
    error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
    return (a.mean(0) - b.mean(0)) / error.clamp_min(1e-12)


@known
def test_sticking_the_landing_has_no_variance_where_q_is_the_posterior(make):
    model = make(rows=100)
    x = torch.full((100, *model.image_shape), 0.8, dtype=torch.float64)
    plain = gradients(model, x, kind="iwae")[:, SHIFTS[make]]
    stl = gradients(model, x, gradient="stl")[:, SHIFTS[make]]
    assert plain.std(0).min() > 0.1
    assert stl.abs().max() < 1e-12


@known
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_sticking_the_landing_is_unbiased_with_one_sample(make, beta):
    model, x = inexact(make)
    plain = gradients(model, x, 1, beta=beta)
    stl = gradients(model, x, 2, beta=beta, gradient="stl")
    assert z_scores(plain, stl).abs().max() < 4


@known
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_doubly_reparameterised_gradients_are_unbiased(make, beta):
    model, x = inexact(make)
    options = {"kind": "iwae", "num_samples": 4, "beta": beta}
    plain = gradients(model, x, 1, **options)
    dreg = gradients(model, x, 2, gradient="dreg", **options)
    stl = gradients(model, x, 3, gradient="stl", **options)
    assert z_scores(plain, dreg).abs().max() < 4
    assert z_scores(plain, stl).abs().max() > 8, "sticking the landing is biased for K > 1"


@known
def test_signal_to_noise_grows_with_k_where_the_plain_gradients_falls(make):
    """As 1 / sqrt(K) and sqrt(K): Rainforth et al. 2018, Tucker et al. 2019."""
    model, x = inexact(make, rows=1000, shift=0.15)

    def signal_to_noise(gradient, num_samples):
        options = {"kind": "iwae", "num_samples": num_samples, "gradient": gradient}
        found = gradients(model, x, num_samples, **options)[:, SHIFTS[make]]
        return (found.mean(0).norm() / found.std(0).norm()).item()

    assert signal_to_noise("plain", 256) < 0.5 * signal_to_noise("plain", 16)
    assert signal_to_noise("dreg", 256) > 2 * signal_to_noise("dreg", 16)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("gradient", ["stl", "dreg"])
def test_real_models_get_the_plain_gradient_in_expectation(kind, gradient):
    """Several groups, parameters that q and p share, recurrence, learned priors."""
    options = {"kind": "iwae", "num_samples": 3 if gradient == "dreg" else 1}
    model = perturbed(CONFIGS[kind])
    plain = replicates(model, 1, **options)
    other = replicates(model, 2, gradient=gradient, **options)
    scores = z_scores(plain, other)[(plain.std(0) > 1e-12) | (other.std(0) > 1e-12)]
    assert scores.abs().max() < 5.5


def perturbed(config):
    torch.manual_seed(0)
    model = build(config, (1, 3, 3)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def replicates(model, seed, count=16, rows=250, **options):
    """Gradients by all parameters, each the mean of many draws for one image, [count, all]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 0], dtype=torch.float64).view(1, 1, 3, 3)
    found = []
    for _ in range(count):
        terms = objective(model, x.expand(rows, -1, -1, -1), generator=generator, **options)
        by_parameter = torch.autograd.grad(
            terms.value.mean(), list(model.parameters()), materialize_grads=True
        )
        found.append(torch.cat([g.flatten() for g in by_parameter]))
    return torch.stack(found)
