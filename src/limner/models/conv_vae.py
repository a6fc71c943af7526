"""A convolutional VAE: residual encoder and decoder, one latent group.

    q(z | x) = N(mu, sigma^2)(encoder(x)),  p(z) = N(0, I),  p(x | z) = observation(decoder(z))

The encoder halves the resolution before each of its stages, and the decoder mirrors it. z is a
vector, or maps at the coarsest resolution.
"""

import torch
from torch import Tensor, nn

from limner.layers.convolution import (
    Convolution,
    Down,
    GaussianMaps,
    Up,
    at_scale,
    blocks,
    normalised,
)
from limner.layers.gaussian import GaussianHead, StandardNormal, mapped
from limner.layers.linear import Linear
from limner.layers.precision import full
from limner.models.base import (
    Divergence,
    Generation,
    Inference,
    Latent,
    LatentVariableModel,
    divergence_of,
)
from limner.models.configs import ConvVAEConfig
from limner.models.draws import Draws


class ConvVAE(LatentVariableModel):
    """Convolutional VAE: residual blocks at each resolution, one latent group."""

    config: ConvVAEConfig

    def __init__(self, config: ConvVAEConfig, image_shape: tuple[int, int, int]):
        super().__init__(config, image_shape)
        channels, *size = self.image_shape
        maps, stages = config.hidden_maps, range(len(config.hidden_maps))
        sizes = [at_scale(size, 2**stage) for stage in (*stages, len(stages))]
        encoder, decoder = nn.Sequential(), nn.Sequential()
        for stage in stages:
            encoder.append(Down(maps[stage - 1] if stage else channels, maps[stage], scale=2))
            encoder.extend(blocks(config.blocks, maps[stage], config.activation))
        for stage in reversed(stages):
            decoder.extend(blocks(config.blocks, maps[stage], config.activation))
            if stage:
                decoder.append(Up(maps[stage], maps[stage - 1], 2, sizes[stage]))
        self.encoder = encoder.append(normalised(maps[-1], config.activation))
        self.posterior, self.expand = _around(config, (maps[-1], *sizes[-1]))
        self.decoder = decoder.append(normalised(maps[0], config.activation))
        self.output = Up(maps[0], self.canvas_shape[0], 2, sizes[0], bias=False)
        self.output.weight.data.mul_(0.1)  # starts near the mean image
        self.output_bias = nn.Parameter(torch.zeros(self.canvas_shape))

    @property
    def latent_shapes(self) -> list[tuple[int, ...]]:
        config = self.config
        if config.latent == "vector":
            return [(config.latent_dim,)]
        return [(config.latent_dim, *at_scale(self.image_shape[1:], 2 ** len(config.hidden_maps)))]

    @property
    def group_names(self) -> list[str]:
        return ["z"]

    def _infer(self, x: Tensor, draws: Draws, divergence: Divergence, trace: bool) -> Inference:
        q = mapped(draws.spread, self.posterior(self.encoder(x)))
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
        z = draws(0, StandardNormal((n, *self.latent_shapes[0]), like=self.output_bias))
        observation = self.observe(self._decode(z)[0])
        return Generation(observation.mean, observation, latents=[z] if trace else None)

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The canvas, and the features before it."""
        features = self.decoder(self.expand(z))
        return full(self.output(features)) + self.output_bias, features.flatten(1)

    @property
    def _output_bias(self) -> nn.Parameter:
        return self.output_bias


def _around(config: ConvVAEConfig, coarsest: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    """The layers around z: from the encoder's maps to q(z | x), and from z to the decoder's."""
    maps, latent = coarsest[0], config.latent_dim
    if config.latent == "maps":
        return GaussianMaps(maps, latent), Convolution(latent, maps)
    width = torch.Size(coarsest).numel()
    posterior = nn.Sequential(nn.Flatten(), GaussianHead(width, latent))
    return posterior, nn.Sequential(Linear(latent, width), nn.Unflatten(1, coarsest))
