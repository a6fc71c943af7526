"""Diagonal Gaussians: heads, closed-form divergence, and the precision-weighted merge."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from limner.layers.precision import full
from limner.layers.products import Linear

LOG_SIGMA_RANGE = (-10.0, 5.0)
"""log sigma of every latent is held to this range: sigma from 4.5e-5 to 148."""


def normal(mu: Tensor, log_sigma: Tensor) -> Normal:
    """N(mu, sigma^2) with log sigma held to `LOG_SIGMA_RANGE`, so that no exponential overflows."""
    return Normal(mu, log_sigma.clamp(*LOG_SIGMA_RANGE).exp(), validate_args=False)


def standard_normal(batch: int, latent_dim: int, like: Tensor) -> Normal:
    """N(0, I) of shape [batch, latent_dim], with the device and dtype of `like`."""
    zeros = like.new_zeros(batch, latent_dim)
    return Normal(zeros, torch.ones_like(zeros), validate_args=False)


def standard_normal_like(q: Normal) -> Normal:
    """N(0, I) in the shape of `q`."""
    return standard_normal(*q.loc.shape, like=q.loc)


def kl_divergence(q: Normal, p: Normal | None = None) -> Float[Tensor, " batch"]:
    """KL(q || p) in nats of diagonal Gaussians [batch, latent]; `p` is N(0, I) where not given.

    sum_d  log sigma_p - log sigma_q + (sigma_q^2 + (mu_q - mu_p)^2) / (2 sigma_p^2) - 1/2,
    which for a standard p is equation 11 of Gregor et al. (2015).
    """
    if p is None:
        terms = 0.5 * (q.loc.square() + q.scale.square() - 1) - q.scale.log()
    else:
        ratio = q.scale / p.scale
        distance = (q.loc - p.loc) / p.scale
        terms = 0.5 * (ratio.square() + distance.square() - 1) - ratio.log()
    return terms.sum(-1)


def log_density(q: Normal, z: Float[Tensor, "batch latent"]) -> Float[Tensor, " batch"]:
    """log q(z) in nats, summed over the latent dimensions."""
    distance = (z - q.loc) / q.scale
    return (-0.5 * (distance.square() + math.log(2 * math.pi)) - q.scale.log()).sum(-1)


def log_ratio(q: Normal, p: Normal | None, z: Tensor) -> Float[Tensor, " batch"]:
    """log q(z) - log p(z): the one-sample estimate of KL(q || p)."""
    return log_density(q, z) - log_density(p or standard_normal_like(q), z)


def precision_weighted(a: Normal, b: Normal) -> Normal:
    """Product of two Gaussians, normalised (Sonderby et al. 2016, equations 17 to 19).

    Both [batch, latent]; precisions add, means average by precision.
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
        mu, log_sigma = full(self.linear(features)).chunk(2, dim=-1)
        return normal(mu, log_sigma)
