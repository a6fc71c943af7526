"""Models whose log p(x) is known, against which bounds and gradient estimators are tested.

Parameters hold one row, or one row per image. With one row per image, the gradients of n images are
n independent draws of an estimator. With K samples per image, rows are repeated K times.
"""

import math

import torch
from torch import nn
from torch.distributions import Normal

from limner.layers.gaussian import StandardNormal, precision_weighted
from limner.models.base import (
    Inference,
    Latent,
    LatentVariableModel,
    ModelConfig,
    divergence_of,
)


def parameter(*values, rows):
    """A parameter [rows, len(values)] in float64."""
    return nn.Parameter(torch.tensor(values, dtype=torch.float64).repeat(rows, 1))


def rows_for(weights, n):
    """Rows of a parameter for a batch of n, which may be images times samples."""
    return weights.repeat(n // len(weights), 1)


class _Known(LatentVariableModel):
    """What both share: p(x | z) is N(mu, sigma^2 I) with sigma fixed."""

    sigma = 0.5

    def _inference(self, x, mu, latents, divergence, trace):
        kl = torch.stack([divergence_of(q, p, z, divergence) for q, p, z in latents], dim=1)
        log_likelihood = Normal(mu, self.sigma, validate_args=False).log_prob(x.flatten(1)).sum(1)
        return Inference(kl, log_likelihood, latents if trace else None)

    def check_form(self, x):
        """Any real number may be a pixel."""

    check_images = check_form

    def _generate(self, n, draws, trace):
        raise NotImplementedError

    @property
    def _output_bias(self):
        raise NotImplementedError


class LinearGaussian(_Known):
    """z ~ N(0, I), x = z * scales + bias + noise: the posterior is diagonal, so q can be exact.

    q = N(slope * (x - bias_0) + shift, sigma_q^2), made exact by `__init__` where shift is zero
    and bias is bias_0.
    """

    def __init__(self, scales=(1.5, -0.7), rows=1):
        super().__init__(ModelConfig(kind="known", observation="gaussian"), (1, 1, len(scales)))
        zeros = [0.0] * len(scales)
        self.scales = torch.tensor(scales, dtype=torch.float64)
        precision = 1 + (self.scales / self.sigma) ** 2
        self.slope = self.scales / self.sigma**2 / precision
        self.shift = parameter(*zeros, rows=rows)
        self.bias = parameter(*zeros, rows=rows)
        self.log_sigma = parameter(*(-0.5 * precision.log()).tolist(), rows=rows)

    @property
    def latent_shapes(self):
        return [(len(self.scales),)]

    def _infer(self, x, draws, divergence, trace):
        x = draws.spread(x)
        n = len(x)
        mu = self.slope * x.flatten(1) + rows_for(self.shift, n)
        q = Normal(mu, rows_for(self.log_sigma, n).exp(), validate_args=False)
        z = draws(0, q)
        latent = Latent(q, StandardNormal(mu.shape, like=mu), z)
        mean = z * self.scales + rows_for(self.bias, n)
        return self._inference(x, mean, [latent], divergence, trace)

    def log_evidence(self, x):
        """log p(x), for a bias of zero."""
        var = self.scales**2 + self.sigma**2
        return Normal(torch.zeros_like(var), var.sqrt()).log_prob(x.flatten(1)).sum(1)


class TwoGroups(_Known):
    """z_2 ~ N(0, 1), z_1 ~ N(a z_2, s^2), x = w z_1 + noise; z_1 is group 0, as in a ladder.

    q(z_2 | x) = N(slope x + shift_2, .), q(z_1 | z_2, x) is the precision-weighted merge of p(z_1 |
    z_2) with N(x / w + shift_1, .), so it shares a with p. Exact where both shifts are zero.
    """

    w, s = 1.3, 0.8

    def __init__(self, rows=1, a=0.9):
        super().__init__(ModelConfig(kind="known", observation="gaussian"), (1, 1, 1))
        self.a = parameter(a, rows=rows)
        self.shifts = parameter(0.0, 0.0, rows=rows)
        var = self._variance(a)
        self.slope = self.w * a / var
        self.sigma_2 = math.sqrt(1 - (self.w * a) ** 2 / var)

    def _variance(self, a):
        return self.w**2 * (a**2 + self.s**2) + self.sigma**2

    @property
    def latent_shapes(self):
        return [(1,), (1,)]

    def _infer(self, x, draws, divergence, trace):
        x = draws.spread(x)
        x_ = x.flatten(1)
        a, (shift_1, shift_2) = rows_for(self.a, len(x)), rows_for(self.shifts, len(x)).split(1, 1)
        p_2 = StandardNormal((len(x), 1), like=x)
        q_2 = Normal(
            self.slope * x_ + shift_2, torch.full_like(x_, self.sigma_2), validate_args=False
        )
        z_2 = draws(1, q_2)
        p_1 = Normal(a * z_2, torch.full_like(z_2, self.s), validate_args=False)
        evidence = Normal(
            x_ / self.w + shift_1, torch.full_like(x_, self.sigma / self.w), validate_args=False
        )
        q_1 = precision_weighted(evidence, p_1)
        z_1 = draws(0, q_1)
        groups = [Latent(q_1, p_1, z_1), Latent(q_2, p_2, z_2)]
        return self._inference(x, self.w * z_1, groups, divergence, trace)

    def log_evidence(self, x):
        """log p(x)."""
        return Normal(0.0, self._variance(self.a[0]).sqrt()).log_prob(x.flatten(1)).sum(1)
