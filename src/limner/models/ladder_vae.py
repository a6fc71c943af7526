"""The Ladder VAE (Sonderby et al. 2016): a hierarchy of latent groups in space.

Bottom up, without noise:   d_i = MLP_i(d_{i-1}), d_0 = x;   q^_i = N(mu^(d_i), sigma^2(d_i))
Top down, the model:        p_L = N(0, I);   p_i(z_i | z_{i+1}) = N(mu(MLP(z_{i+1})), sigma^2(.))
Posterior:                  q_L = q^_L;   q_i proportional to q^_i p_i, the precision-weighted merge
Image:                      p(x | z_1) = observation(MLP(z_1))

Index i of `kl` and `latents` is z_{i+1}: bottom first, as in the config.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from limner.layers.batch import BatchNorm
from limner.layers.gaussian import StandardNormal, mapped, precision_weighted
from limner.layers.linear import Linear
from limner.layers.mlp import mlp
from limner.layers.precision import full
from limner.models.base import (
    Divergence,
    Generation,
    Inference,
    Latent,
    LatentVariableModel,
    divergence_of,
)
from limner.models.configs import LadderVAEConfig
from limner.models.draws import Draws

VAR_FLOOR = 1e-6
"""Added to each softplus variance, so that no precision overflows."""


class SoftplusHead(nn.Module):
    """Features to N(mu, softplus(.)), both batch-normalised."""

    def __init__(self, in_dim: int, latent_dim: int):
        super().__init__()
        self.linear = Linear(in_dim, 2 * latent_dim)
        self.norm = BatchNorm(2 * latent_dim)

    def forward(self, features: Tensor) -> Normal:
        mu, var = full(self.norm(self.linear(features))).chunk(2, dim=-1)
        return Normal(mu, (F.softplus(var) + VAR_FLOOR).sqrt(), validate_args=False)


class LadderVAE(LatentVariableModel):
    """Ladder VAE: one latent group per layer, and batch norm in every layer but the output.

    In evaluation mode batch norm uses running statistics, so images are independent. Training
    recomputes these over the training set, for the current weights, before they are used.
    """

    compiling_pays_after = 6000
    config: LadderVAEConfig

    def __init__(self, config: LadderVAEConfig, image_shape: tuple[int, int, int]):
        super().__init__(config, image_shape)
        pixels = self.image_shape[0] * self.image_shape[1] * self.image_shape[2]
        widths, latents = config.hidden_dims, config.latent_dims

        def block(in_dim: int, width: int) -> nn.Sequential:
            return mlp((in_dim, width, width), config.activation, batch_norm=True)

        self.up = nn.ModuleList(map(block, (pixels, *widths[:-1]), widths))
        self.up_heads = nn.ModuleList(map(SoftplusHead, widths, latents))
        self.down = nn.ModuleList(map(block, latents, widths))
        self.down_heads = nn.ModuleList(map(SoftplusHead, widths[1:], latents[:-1]))
        self.output = Linear(widths[0], math.prod(self.canvas_shape))
        nn.init.zeros_(self.output.bias)

    @property
    def latent_shapes(self) -> list[tuple[int, ...]]:
        return [(dim,) for dim in self.config.latent_dims]

    def _infer(self, x: Tensor, draws: Draws, divergence: Divergence, trace: bool) -> Inference:
        evidence = [mapped(draws.spread, q) for q in self._bottom_up(x)]
        x, features = draws.spread(x), None
        kl, groups = [], []
        for layer in reversed(range(self.num_groups)):
            p = self._prior(layer, features, x.shape[0])
            q = evidence[layer] if features is None else precision_weighted(evidence[layer], p)
            z = draws(layer, q, p)
            kl.append(divergence_of(q, p, z, divergence))
            groups.append(Latent(q, p, z))
            features = self.down[layer](z)
        observation = self.observe(self.output(features).unflatten(1, self.canvas_shape))
        kl, log_likelihood = torch.stack(kl[::-1], dim=1), observation.log_prob(x)
        if not trace:
            return Inference(kl, log_likelihood)
        return Inference(kl, log_likelihood, groups[::-1], observation, features=features)

    def _generate(self, n: int, draws: Draws, trace: bool) -> Generation:
        features, zs = None, []
        for layer in reversed(range(self.num_groups)):
            zs.append(draws(layer, self._prior(layer, features, n)))
            features = self.down[layer](zs[-1])
        observation = self.observe(self.output(features).unflatten(1, self.canvas_shape))
        return Generation(observation.mean, observation, latents=zs[::-1] if trace else None)

    def _bottom_up(self, x: Tensor) -> list[Normal]:
        """q^_i of every layer, bottom first."""
        d, evidence = x.flatten(1), []
        for block, head in zip(self.up, self.up_heads, strict=True):
            d = block(d)
            evidence.append(head(d))
        return evidence

    def _prior(self, layer: int, features: Tensor | None, n: int) -> Normal:
        """p(z) of a layer, given the features of the layer above; N(0, I) at the top."""
        if features is None:
            return StandardNormal((n, self.config.latent_dims[-1]), like=self.output.weight)
        return self.down_heads[layer](features)

    @property
    def _output_bias(self) -> nn.Parameter:
        return self.output.bias
