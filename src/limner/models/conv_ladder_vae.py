"""A convolutional Ladder VAE: a hierarchy of latent maps over resolutions.

(Sonderby et al. 2016; top-down residual groups as in Child 2021, "Very Deep VAEs".)

Bottom up, without noise:   d_s = blocks(down(d_s')) at each scale s, from the scale s' below, or x
Top down, for each group:   p = N(mu, sigma^2)(h), N(0, I) at the top;  z ~ q;
                            h <- block(h + W z);  between scales h <- up(h)
Posterior, merged:          q proportional to q^(d) p, q^(d) = N(mu, sigma^2)(d); q = q^ at the top
Posterior, learned:         q = N(mu, sigma^2)(h, d)
Image:                      p(x | z) = observation(up(h))

Index i of `kl` and `latents` is z_{i+1}: bottom first, as in the config.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from limner.layers.convolution import (
    Convolution,
    Down,
    GaussianMaps,
    ResidualBlock,
    Up,
    at_scale,
    blocks,
    normalised,
)
from limner.layers.gaussian import StandardNormal, precision_weighted
from limner.layers.precision import full
from limner.models.base import (
    Divergence,
    Generation,
    Inference,
    Latent,
    LatentVariableModel,
    divergence_of,
)
from limner.models.configs import ConvLadderVAEConfig
from limner.models.draws import Draws

WEAK = 1.5
"""log sigma of the evidence in a new model."""


class Group(nn.Module):
    """One latent group of the top-down pass.

    Args:
        enter: brings h to the group's resolution.
        top: whether it is the first group of the pass, whose prior is N(0, I).
        share: scale of the initial weights of its block and heads; see `ResidualBlock`.
    """

    def __init__(self, config: ConvLadderVAEConfig, enter: nn.Module, top: bool, share: float):
        super().__init__()
        maps, latent, activation = config.hidden_maps, config.latent_maps, config.activation

        def head(in_maps: int, log_sigma: float = 0.0) -> nn.Sequential:
            gaussian = GaussianMaps(in_maps, latent, scale=0.3 * share)
            gaussian.bias.data[latent:] = log_sigma
            return nn.Sequential(normalised(in_maps, activation), gaussian)

        self.learned = config.posterior == "learned"
        self.enter = enter
        self.prior_head = None if top else head(maps)
        merged = not (top or self.learned)  # weak evidence at first: q starts near p
        self.posterior_head = head(2 * maps if self.learned else maps, WEAK if merged else 0.0)
        self.mix = Convolution(latent, maps)
        self.block = ResidualBlock(maps, activation, share)

    def prior(self, h: Tensor) -> Normal | None:
        """p(z) given the groups above; None at the top."""
        return None if self.prior_head is None else self.prior_head(h)

    def posterior(self, d: Tensor, h: Tensor, p: Normal | None) -> Normal:
        """q(z) given the image's features `d` at this scale and the groups above."""
        if self.learned:
            return self.posterior_head(torch.cat([h, d], dim=1))
        evidence = self.posterior_head(d)
        return evidence if p is None else precision_weighted(evidence, p)

    def decode(self, h: Tensor, z: Tensor) -> Tensor:
        """h after the group."""
        return self.block(h + self.mix(z))


class ConvLadderVAE(LatentVariableModel):
    """Convolutional Ladder VAE: one or more latent groups per resolution."""

    config: ConvLadderVAEConfig

    def __init__(self, config: ConvLadderVAEConfig, image_shape: tuple[int, int, int]):
        super().__init__(config, image_shape)
        channels, height, width = self.image_shape
        maps, activation = config.hidden_maps, config.activation
        scales, counts = zip(*config.scales, strict=True)
        self.sizes = [at_scale((height, width), scale) for scale in scales]
        self.levels = [level for level, count in enumerate(counts) for _ in range(count)]
        self.up = nn.ModuleList()
        for level, scale in enumerate(scales):
            in_maps, below = (maps, scales[level - 1]) if level else (channels, 1)
            down = Down(in_maps, maps, scale // below)
            self.up.append(nn.Sequential(down, *blocks(config.blocks, maps, activation)))
        top, share = len(self.levels) - 1, len(self.levels) ** -0.5
        self.groups = nn.ModuleList(
            Group(config, self._entrance(index, scales), index == top, share)
            for index in range(len(self.levels))
        )
        self.h_0 = nn.Parameter(torch.zeros(maps, *self.sizes[-1]))
        self.before = normalised(maps, activation)
        self.output = Up(maps, self.canvas_shape[0], scales[0], (height, width), bias=False)
        self.output.weight.data.mul_(0.1)  # starts near the mean image
        self.output_bias = nn.Parameter(torch.zeros(self.canvas_shape))

    def _entrance(self, index: int, scales: Sequence[int]) -> nn.Module:
        """The layer that brings h to the resolution of a group."""
        level, maps = self.levels[index], self.config.hidden_maps
        if [*self.levels, level][index + 1] == level:
            return nn.Identity()
        return Up(maps, maps, scales[level + 1] // scales[level], self.sizes[level])

    @property
    def latent_shapes(self) -> list[tuple[int, ...]]:
        return [(self.config.latent_maps, *self.sizes[level]) for level in self.levels]

    def _infer(self, x: Tensor, draws: Draws, divergence: Divergence, trace: bool) -> Inference:
        evidence = [draws.spread(d) for d in self._bottom_up(x)]
        x = draws.spread(x)
        h, kl, latents = self._top(x.shape[0]), [], []
        for index in reversed(range(self.num_groups)):
            group: Group = self.groups[index]  # type: ignore[assignment]
            h = group.enter(h)
            p = group.prior(h)
            q = group.posterior(evidence[self.levels[index]], h, p)
            p = StandardNormal(q.loc.shape, like=q.loc) if p is None else p
            z = draws(index, q, p)
            kl.append(divergence_of(q, p, z, divergence))
            latents.append(Latent(q, p, z))
            h = group.decode(h, z)
        observation = self.observe(self._canvas(h))
        kl, log_likelihood = torch.stack(kl[::-1], dim=1), observation.log_prob(x)
        if not trace:
            return Inference(kl, log_likelihood)
        features = h.flatten(1)
        return Inference(kl, log_likelihood, latents[::-1], observation, features=features)

    def _generate(self, n: int, draws: Draws, trace: bool) -> Generation:
        h, zs = self._top(n), []
        for index in reversed(range(self.num_groups)):
            group: Group = self.groups[index]  # type: ignore[assignment]
            h = group.enter(h)
            p = group.prior(h) or StandardNormal((n, *self.latent_shapes[index]), like=h)
            zs.append(draws(index, p))
            h = group.decode(h, zs[-1])
        observation = self.observe(self._canvas(h))
        return Generation(observation.mean, observation, latents=zs[::-1] if trace else None)

    def _bottom_up(self, x: Tensor) -> list[Tensor]:
        """d_s of every scale, bottom first."""
        d, found = x, []
        for stage in self.up:
            d = stage(d)
            found.append(d)
        return found

    def _top(self, n: int) -> Tensor:
        """h before the first group."""
        return self.h_0.expand(n, *self.h_0.shape)

    def _canvas(self, h: Tensor) -> Tensor:
        return full(self.output(self.before(h))) + self.output_bias

    @property
    def _output_bias(self) -> nn.Parameter:
        return self.output_bias
