"""Bounds against models whose log p(x) is known, and the objective of training."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from limner import DRAWConfig, InputError, LadderVAEConfig, elbo, importance_weighted_bound
from limner.models import build
from limner.objectives import objective, rows_that_fit
from linear_gaussian import LinearGaussian, TwoGroups

X = torch.tensor([[[[0.9, -1.1]]]], dtype=torch.float64)
known = pytest.mark.parametrize("make", [LinearGaussian, TwoGroups])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n, *shape):
    return torch.randn(n, *(shape or (1, 1, 2)), generator=seeded(5), dtype=torch.float64)


def off(model):
    """The same model with a posterior that is not exact."""
    with torch.no_grad():
        for name in ("shift", "shifts"):
            if hasattr(model, name):
                getattr(model, name).add_(0.4)
    return model.eval()


def stderr(values):
    return values.std() / len(values) ** 0.5


@known
@pytest.mark.parametrize("num_samples", [1, 2, 7])
def test_where_q_is_the_posterior_every_bound_is_log_p(make, num_samples):
    model = make().eval()
    x = images(5, *model.image_shape)
    bound = importance_weighted_bound(model, x, num_samples, generator=seeded())
    assert_close(bound, model.log_evidence(x), rtol=0, atol=1e-10)
    assert_close(
        elbo(model.infer(x, seeded(), divergence="sampled")),
        model.log_evidence(x),
        rtol=0,
        atol=1e-10,
    )


@known
def test_elsewhere_the_bound_is_log_p_but_for_noise_and_a_bias_of_order_one_over_k(make):
    model, num_samples = off(make()), 50
    x = images(1, *model.image_shape).expand(2000, -1, -1, -1)
    log_p = model.log_evidence(x[:1])
    bound = importance_weighted_bound(model, x, num_samples, generator=seeded())
    weights = (elbo(model.infer(x, seeded(1), divergence="sampled")) - log_p).exp()
    assert_close(weights.mean().item(), 1.0, rtol=0, atol=4 * stderr(weights).item())
    bias = weights.var() / (2 * num_samples)
    error = 4 * stderr(bound)
    assert -1.5 * bias - error < bound.mean() - log_p < error
    assert bias > error, "the test would not see the bias"


@known
def test_the_bound_rises_with_k_from_the_elbo(make):
    model = off(make())
    x = images(1, *model.image_shape).expand(4000, -1, -1, -1)
    bounds = [importance_weighted_bound(model, x, k, generator=seeded(k)) for k in (1, 2, 4, 16)]
    for lower, higher in pairwise(bounds):
        assert higher.mean() - lower.mean() > 2 * (stderr(lower) ** 2 + stderr(higher) ** 2) ** 0.5
    closed = elbo(model.infer(x, seeded(9)))
    error = 4 * (stderr(closed) ** 2 + stderr(bounds[0]) ** 2) ** 0.5
    assert_close(bounds[0].mean().item(), closed.mean().item(), rtol=0, atol=error.item())


def test_the_bound_does_not_depend_on_chunks():
    model, x = off(TwoGroups()), images(3, 1, 1, 1)
    whole, *parts = (
        importance_weighted_bound(model, x, 10, chunk, seeded()) for chunk in (None, 1, 3, 10, 99)
    )
    for part in parts:
        assert_close(part, whole, rtol=0, atol=1e-12)


def test_every_sample_has_noise_of_its_own():
    model = off(LinearGaussian())
    one, many = (importance_weighted_bound(model, X, k, generator=seeded()) for k in (1, 64))
    assert (one - many).abs() > 1e-3


def test_the_bound_refuses_training_mode_and_no_samples():
    with pytest.raises(RuntimeError, match=r"model\.eval"):
        importance_weighted_bound(LinearGaussian().train(), X, 1)
    with pytest.raises(InputError, match="at least 1"):
        importance_weighted_bound(LinearGaussian().eval(), X, 0)


def test_memory_sets_how_many_images_go_through_at_once():
    small = build(DRAWConfig(num_steps=2, hidden_dim=8, latent_dim=4), (1, 4, 4))
    large = build(DRAWConfig(num_steps=2, hidden_dim=8, latent_dim=4), (3, 40, 40))
    assert rows_that_fit(large) < rows_that_fit(small)
    assert rows_that_fit(small, trace=True) < rows_that_fit(small)
    assert rows_that_fit(large, num_bytes=1) == 1


def test_a_gpu_takes_a_share_of_its_memory(monkeypatch):
    model = build(DRAWConfig(num_steps=2, hidden_dim=8, latent_dim=4), (1, 4, 4))
    assert rows_that_fit(model) == rows_that_fit(model, 2**28)
    expected = rows_that_fit(model, 2**37 // 8)
    weight = SimpleNamespace(device=torch.device("cuda"), element_size=lambda: 4)
    monkeypatch.setattr(model, "parameters", lambda: iter([weight]))
    monkeypatch.setattr("limner.objectives.device_memory", lambda device: 2**37)
    assert rows_that_fit(model) == expected > rows_that_fit(model, 2**28)


def test_the_plain_elbo_is_one_inference():
    model, x = off(TwoGroups()), images(4, 1, 1, 1)
    terms, inference = objective(model, x, generator=seeded()), model.infer(x, seeded())
    assert torch.equal(terms.value, elbo(inference))
    assert torch.equal(terms.kl, inference.kl)
    assert torch.equal(terms.log_likelihood, inference.log_likelihood)


def test_beta_weighs_the_kl():
    model, x = off(TwoGroups()), images(4, 1, 1, 1)
    terms = objective(model, x, generator=seeded(), beta=0.3)
    assert_close(terms.value, terms.log_likelihood - 0.3 * terms.kl.sum(1))


def test_free_bits_are_a_floor_under_the_mean_kl_of_each_group():
    model, x = off(TwoGroups()), images(6, 1, 1, 1)
    kl = model.infer(x, seeded()).kl
    means = kl.mean(0)
    floor = means.mean().item()
    assert means.min() < floor < means.max(), "one group above the floor, one below"
    assert (kl[:, means.argmax()] < floor).any(), "an image below it in the group above"
    terms = objective(model, x, generator=seeded(), free_bits=floor, beta=0.5)
    expected = terms.log_likelihood.mean() - 0.5 * means.clamp_min(floor).sum()
    assert_close(terms.value.mean(), expected)
    assert torch.equal(terms.kl, kl), "the log shows what the KL is"


def test_a_group_under_the_floor_has_no_kl_gradient():
    model, x = off(TwoGroups()), images(6, 1, 1, 1)
    gradient = torch.autograd.grad(
        objective(model, x, generator=seeded(), free_bits=1e3).value.mean(), model.shifts
    )
    likelihood = torch.autograd.grad(model.infer(x, seeded()).log_likelihood.mean(), model.shifts)
    assert_close(gradient, likelihood)


def test_the_iwae_objective_is_the_importance_weighted_bound_in_expectation():
    model = off(LinearGaussian())
    x = X.expand(4000, -1, -1, -1)
    bound = importance_weighted_bound(model, x, 5, generator=seeded())
    for gradient in ("plain", "stl", "dreg"):
        value = objective(
            model, x, generator=seeded(1), kind="iwae", num_samples=5, gradient=gradient
        ).value
        error = 4 * (stderr(bound) ** 2 + stderr(value.detach()) ** 2) ** 0.5
        assert_close(value.mean().item(), bound.mean().item(), rtol=0, atol=error.item())


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_iwae_averages_the_weights_of_each_image_over_its_samples(beta):
    model, x = off(TwoGroups()), images(3, 1, 1, 1)
    terms = objective(model, x, generator=seeded(), kind="iwae", num_samples=4, beta=beta)
    inference = model.infer(x.repeat(4, 1, 1, 1), seeded(), divergence="sampled")
    log_w = (inference.log_likelihood - beta * inference.kl.sum(1)).view(4, 3)
    assert_close(terms.value, log_w.exp().mean(0).log())
    assert_close(terms.kl, inference.kl.view(4, 3, 2).mean(0))
    assert_close(terms.log_likelihood, inference.log_likelihood.view(4, 3).mean(0))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gradient": "dreg"}, "choose iwae"),
        ({"num_samples": 0}, "at least one sample"),
        ({"kind": "iwae", "free_bits": 0.1}, "set free_bits to 0"),
        ({"gradient": "stl", "free_bits": 0.1}, "set free_bits to 0"),
    ],
)
def test_what_is_not_defined_is_refused_in_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        objective(LinearGaussian(), X, **options)


@pytest.mark.parametrize("gradient", ["stl", "dreg"])
def test_batch_norm_counts_a_batch_once_and_changes_no_answer(gradient):
    """In training mode, where several groups are scored more than once."""
    options = {"kind": "iwae", "num_samples": 2}
    config = LadderVAEConfig(hidden_dims=(6, 5), latent_dims=(3, 2))
    torch.manual_seed(0)
    plain = build(config, (1, 3, 3)).double().train()
    other = build(config, (1, 3, 3)).double().train()
    other.load_state_dict(plain.state_dict())
    x = images(8, 1, 3, 3).sigmoid().round()
    value = objective(plain, x, generator=seeded(), **options).value
    assert_close(objective(other, x, generator=seeded(), gradient=gradient, **options).value, value)
    for name, buffer in plain.named_buffers():
        assert_close(dict(other.named_buffers())[name], buffer, msg=name)
