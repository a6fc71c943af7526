"""Two latent groups, the lower one's posterior told of the upper one, without the ladder's merge.

p(z_2) = N(0, I),  p(z_1 | z_2) = N(mu(MLP(z_2)), sigma^2(.)),  p(x | z_1) = observation(MLP(z_1))
q(z_2 | x) = N(mu(d), sigma^2(d)),  q(z_1 | x, z_2) = N(mu([d, z_2]), sigma^2(.)),  d = MLP(x)
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from limner.layers.gaussian import GaussianHead, standard_normal, standard_normal_like
from limner.layers.mlp import mlp
from limner.layers.observation import Observation
from limner.models.base import (
    Draws,
    Generation,
    Inference,
    Latent,
    LatentVariableModel,
    ModelConfig,
    divergence_of,
)
from limner.settings import Hidden


class TwoLayerVAEConfig(ModelConfig):
    """Widths of a VAE with two latent groups."""

    kind: Annotated[Literal["two-layer-vae"], Hidden] = "two-layer-vae"
    hidden_dim: PositiveInt = Field(default=256, description="width of every MLP")
    latent_dims: tuple[PositiveInt, PositiveInt] = Field(
        default=(32, 16), description="latent variables of z_1 and z_2"
    )


class TwoLayerVAE(LatentVariableModel):
    """A VAE with two latent groups; `kl` and `latents` begin with the lower one."""

    config: TwoLayerVAEConfig

    def __init__(self, config: TwoLayerVAEConfig, image_shape: tuple[int, int, int]):
        super().__init__(config, image_shape)
        hidden, (lower, upper) = config.hidden_dim, config.latent_dims
        self.encoder = mlp((math.prod(self.image_shape), hidden, hidden))
        self.q_2 = GaussianHead(hidden, upper)
        self.q_1 = GaussianHead(hidden + upper, lower)
        self.p_1 = nn.Sequential(mlp((upper, hidden)), GaussianHead(hidden, lower))
        self.decoder = mlp((lower, hidden, hidden))
        self.output = nn.Linear(hidden, math.prod(self.canvas_shape))

    @property
    def group_names(self) -> list[str]:
        return ["z_1", "z_2"]

    def infer(
        self, x, generator=None, trace=False, *, divergence="closed_form", latents=None
    ) -> Inference:
        draws = Draws(generator, latents)
        d, x = draws.spread(self.encoder(x.flatten(1))), draws.spread(x)
        q_2 = self.q_2(d)
        z_2 = draws(1, q_2)
        q_1 = self.q_1(torch.cat([d, z_2], dim=1))
        z_1 = draws(0, q_1)
        groups = [Latent(q_1, self.p_1(z_2), z_1), Latent(q_2, standard_normal_like(q_2), z_2)]
        kl = torch.stack([divergence_of(*group, divergence) for group in groups], dim=1)
        observation, features = self._decode(z_1)
        if not trace:
            return Inference(kl, observation.log_prob(x))
        return Inference(kl, observation.log_prob(x), groups, observation, features=features)

    def generate(self, n, generator=None, trace=True, *, latents=None) -> Generation:
        draws = Draws(generator, latents)
        z_2 = draws(1, standard_normal(n, self.config.latent_dims[1], like=self.output.weight))
        observation, _ = self._decode(draws(0, self.p_1(z_2)))
        return Generation(observation.mean, observation)

    def _decode(self, z_1: Tensor) -> tuple[Observation, Tensor]:
        features = self.decoder(z_1)
        return self.observe(self.output(features).unflatten(1, self.canvas_shape)), features

    @property
    def _output_bias(self) -> nn.Parameter:
        return self.output.bias
