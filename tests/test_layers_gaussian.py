"""Closed forms against torch.distributions, Monte Carlo and numerical integration."""

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl
from torch.testing import assert_close

from limner.layers import gaussian


def random_normal(generator, *shape):
    mu, log_sigma = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return Normal(mu, (0.5 * log_sigma).exp())


def repeated(d, times):
    """`d` `times` times, standard if `d` is."""
    if isinstance(d, gaussian.StandardNormal):
        return gaussian.StandardNormal((times * len(d.loc), *d.loc.shape[1:]), like=d.loc)
    repeats = (times, *[1] * (d.loc.dim() - 1))
    return Normal(d.loc.repeat(repeats), d.scale.repeat(repeats))


@pytest.fixture(params=[(3,), (4, 3, 2)], ids=["vectors", "maps"])
def q(request, generator):
    return random_normal(generator, 4, *request.param)


@pytest.fixture(params=["standard", "given"])
def p(request, q, generator):
    if request.param == "standard":
        return gaussian.StandardNormal(q.loc.shape, like=q.loc)
    return random_normal(generator, *q.loc.shape)


def test_kl_equals_torch(q, p):
    """Summed over every dimension but the batch."""
    assert_close(gaussian.kl_divergence(q, p), torch_kl(q, p).flatten(1).sum(1))


def test_kl_equals_monte_carlo(q, p, generator):
    q_K, p_K = repeated(q, 20_000), repeated(p, 20_000)
    z = q_K.loc + q_K.scale * torch.empty_like(q_K.loc).normal_(generator=generator)
    ratios = gaussian.log_ratio(q_K, p_K, z)
    assert_close(ratios, (q_K.log_prob(z) - p_K.log_prob(z)).flatten(1).sum(1))
    ratios = ratios.unflatten(0, (-1, 4))
    stderr = ratios.std(0) / len(ratios) ** 0.5
    assert ((ratios.mean(0) - gaussian.kl_divergence(q, p)).abs() < 4 * stderr).all()


def test_merge_is_the_normalised_product_of_densities(generator):
    a, b = random_normal(generator, 4, 3), random_normal(generator, 4, 3)
    z = torch.linspace(-40, 40, 40_001, dtype=torch.float64)[:, None, None]
    product = (a.log_prob(z) + b.log_prob(z)).exp()
    product /= torch.trapezoid(product, z, dim=0)
    assert_close(gaussian.precision_weighted(a, b).log_prob(z).exp(), product)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_sigma_is_held_to_its_range(dtype):
    log_sigma = torch.tensor([[-1e4, -10.5, 0.3, 5.5, 1e4]], dtype=dtype, requires_grad=True)
    q = gaussian.normal(torch.ones_like(log_sigma), log_sigma)
    assert_close(q.scale.log(), torch.tensor([[-10, -10, 0.3, 5, 5]], dtype=dtype))
    p = gaussian.StandardNormal(q.loc.shape, like=q.loc)
    gaussian.kl_divergence(q, p).sum().backward()
    assert log_sigma.grad.isfinite().all()


def test_head_gives_mu_and_log_sigma_of_one_linear_layer(generator):
    head = gaussian.GaussianHead(5, 2).double()
    features = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    out = features @ head.linear.weight.T + head.linear.bias
    assert_close(head(features).loc, out[:, :2])
    assert_close(head(features).scale, out[:, 2:].exp())
