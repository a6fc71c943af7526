"""Diagonal Gaussians: heads, closed-form divergence, and the precision-weighted merge."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from limner.layers.linear import Linear
from limner.layers.precision import full

LOG_SIGMA_RANGE = (-10.0, 5.0)
"""log sigma of every latent is clamped to this range: sigma from 4.5e-5 to 148."""


def normal(mu: Tensor, log_sigma: Tensor) -> Normal:
    """N(mu, sigma^2) with log sigma clamped to `LOG_SIGMA_RANGE`: no exponential overflows."""
    sigma = full(log_sigma).clamp(*LOG_SIGMA_RANGE).exp()
    return Normal(full(mu), sigma, validate_args=False)


class StandardNormal(Normal):
    """N(0, I) of `shape`, with the device and dtype of `like`."""

    def __init__(self, shape: Sequence[int], like: Tensor):
        self.device, self.dtype = like.device, like.dtype
        Distribution.__init__(self, torch.Size(shape), validate_args=False)

    @property
    def loc(self) -> Tensor:
        return torch.zeros((), device=self.device, dtype=self.dtype).expand(self.batch_shape)

    @property
    def scale(self) -> Tensor:
        return torch.ones((), device=self.device, dtype=self.dtype).expand(self.batch_shape)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "StandardNormal":
        return StandardNormal(batch_shape, like=self.loc)


def kl_divergence(q: Normal, p: Normal) -> Float[Tensor, " batch"]:
    """KL(q || p) in nats of diagonal Gaussians [batch, *shape], summed over `shape`.

    sum_d  log sigma_p - log sigma_q + (sigma_q^2 + (mu_q - mu_p)^2) / (2 sigma_p^2) - 1/2.
    For a standard p this is equation 11 of Gregor et al. (2015).
    """
    if isinstance(p, StandardNormal):
        terms = 0.5 * (q.loc.square() + q.scale.square() - 1) - q.scale.log()
    else:
        ratio = q.scale / p.scale
        distance = (q.loc - p.loc) / p.scale
        terms = 0.5 * (ratio.square() + distance.square() - 1) - ratio.log()
    return terms.flatten(1).sum(1)


def log_density(q: Normal, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    """log q(z) in nats, summed over the latent dimensions."""
    distance = (z - q.loc) / q.scale
    terms = -0.5 * (distance.square() + math.log(2 * math.pi)) - q.scale.log()
    return terms.flatten(1).sum(1)


def log_ratio(q: Normal, p: Normal, z: Tensor) -> Float[Tensor, " batch"]:
    """log q(z) - log p(z): the one-sample estimate of KL(q || p)."""
    return log_density(q, z) - log_density(p, z)


def precision_weighted(a: Normal, b: Normal) -> Normal:
    """Product of two Gaussians, normalised (Sonderby et al. 2016, equations 17 to 19).

    Both [batch, *shape]; precisions add, means average by precision.
    """
    precision_a, precision_b = a.scale.square().reciprocal(), b.scale.square().reciprocal()
    var = (precision_a + precision_b).reciprocal()
    mu = (a.loc * precision_a + b.loc * precision_b) * var
    return Normal(mu, var.sqrt(), validate_args=False)


def mapped(function: Callable[[Tensor], Tensor], q: Normal) -> Normal:
    """`q` with a function applied to its mean and to its standard deviation."""
    return Normal(function(q.loc), function(q.scale), validate_args=False)


class GaussianHead(nn.Module):
    """Features to N(mu, sigma^2): mu and log sigma from one linear layer of twice the width."""

    def __init__(self, in_dim: int, latent_dim: int):
        super().__init__()
        self.linear = Linear(in_dim, 2 * latent_dim)

    def forward(self, features: Float[Tensor, "batch features"]) -> Normal:
        mu, log_sigma = self.linear(features).chunk(2, dim=-1)
        return normal(mu, log_sigma)
