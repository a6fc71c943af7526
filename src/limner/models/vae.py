"""The variational autoencoder (Kingma and Welling 2014; Rezende et al. 2014).

q(z | x) = N(mu(x), sigma^2(x)),  p(z) = N(0, I),  p(x | z) = observation(decoder(z))
"""

import math

from torch import Tensor, nn

from limner.layers.gaussian import GaussianHead, StandardNormal, mapped
from limner.layers.linear import Linear
from limner.layers.mlp import mlp
from limner.models.base import (
    Divergence,
    Generation,
    Inference,
    Latent,
    LatentVariableModel,
    divergence_of,
)
from limner.models.configs import VAEConfig
from limner.models.draws import Draws


class VAE(LatentVariableModel):
    """Variational autoencoder with MLP encoder and decoder: one latent group."""

    config: VAEConfig

    def __init__(self, config: VAEConfig, image_shape: tuple[int, int, int]):
        super().__init__(config, image_shape)
        pixels = self.image_shape[0] * self.image_shape[1] * self.image_shape[2]
        encoder_dims = (pixels, *config.hidden_dims)
        decoder_dims = (config.latent_dim, *reversed(config.hidden_dims))
        self.encoder = mlp(encoder_dims, config.activation)
        self.posterior = GaussianHead(encoder_dims[-1], config.latent_dim)
        self.decoder = mlp(decoder_dims, config.activation)
        self.output = Linear(decoder_dims[-1], math.prod(self.canvas_shape))
        nn.init.zeros_(self.output.bias)

    @property
    def latent_shapes(self) -> list[tuple[int, ...]]:
        return [(self.config.latent_dim,)]

    @property
    def group_names(self) -> list[str]:
        return ["z"]

    def _infer(self, x: Tensor, draws: Draws, divergence: Divergence, trace: bool) -> Inference:
        q = mapped(draws.spread, self.posterior(self.encoder(x.flatten(1))))
        p = StandardNormal(q.loc.shape, like=q.loc)
        z = draws(0, q, p)
        canvas, features = self._decode(z)
        observation = self.observe(canvas)
        kl = divergence_of(q, p, z, divergence)[:, None]
        log_likelihood = observation.log_prob(draws.spread(x))
        if not trace:
            return Inference(kl, log_likelihood)
        return Inference(kl, log_likelihood, [Latent(q, p, z)], observation, features=features)

    def _generate(self, n: int, draws: Draws, trace: bool) -> Generation:
        z = draws(0, StandardNormal((n, self.config.latent_dim), like=self.output.weight))
        observation = self.observe(self._decode(z)[0])
        return Generation(observation.mean, observation, latents=[z] if trace else None)

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        features = self.decoder(z)
        return self.output(features).unflatten(1, self.canvas_shape), features

    @property
    def _output_bias(self) -> nn.Parameter:
        return self.output.bias
