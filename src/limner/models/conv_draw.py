"""Convolutional DRAW (Gregor et al. 2016, "Towards Conceptual Compression"): latent maps in time.

For t = 1..T, with c_0, h_0 learned, and maps at a fraction of the image's resolution:

    eps_t = x - mean(c_{t-1})
    h_enc_t = ConvLSTM_enc(h_enc_{t-1}, [down(x, eps_t), h_dec_{t-1}])
    q_t = N(mu, sigma^2)(h_enc_t, h_dec_{t-1});  p_t = N(mu, sigma^2)(h_dec_{t-1});  z_t ~ q_t
    h_dec_t = ConvLSTM_dec(h_dec_{t-1}, [z_t, down(c_{t-1})])
    c_t = c_{t-1} + up(h_dec_t);  p(x | z) = observation(c_T)

mean(c) is the observation's `drawing` of c. All steps share their weights, as in the paper, or each
step has its own (`tied=False`).
"""

from typing import NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from limner.layers.convolution import (
    ConvLSTMCell,
    Down,
    GaussianMaps,
    InitialState,
    Up,
    at_scale,
)
from limner.layers.copies import with_parts
from limner.layers.precision import full
from limner.layers.recurrent import LSTMState
from limner.models.configs import ConvDRAWConfig
from limner.models.recurrent import RecurrentModel


class ConvDRAWState(NamedTuple):
    """The state that one step passes to the next."""

    encoder: LSTMState
    decoder: LSTMState
    canvas: Float[Tensor, "batch maps height width"]


class ConvDRAWStep(nn.Module):
    """The layers of one step."""

    def __init__(self, config: ConvDRAWConfig, image: tuple[int, ...], canvas: tuple[int, ...]):
        super().__init__()
        maps, scale, kernel = config.hidden_maps, config.scale, config.kernel
        self.read = Down(2 * image[0], maps, scale, kernel)
        self.encoder = ConvLSTMCell(2 * maps, maps, kernel)
        head = 0.3 * min(1.0, 16 / config.num_steps) ** 0.5
        self.posterior = GaussianMaps(2 * maps, config.latent_maps, kernel, head)
        self.prior = GaussianMaps(maps, config.latent_maps, kernel, head)
        self.look = Down(canvas[0], maps, scale, kernel)
        self.decoder = ConvLSTMCell(config.latent_maps + maps, maps, kernel)
        self.write = Up(maps, canvas[0], scale, (image[1], image[2]), kernel, bias=False)
        self.write.weight.data.div_(config.num_steps)  # the canvas is a sum over steps


class ConvDRAW(RecurrentModel):
    """Convolutional DRAW: latent maps at each step, with a learned prior."""

    config: ConvDRAWConfig
    layers: ConvDRAWStep
    """Those of the step that a cell is for; see `at_step`."""

    def __init__(self, config: ConvDRAWConfig, image_shape: tuple[int, int, int]):
        super().__init__(config, image_shape)
        size = at_scale(self.image_shape[1:], config.scale)
        self.encoder_start = InitialState(config.hidden_maps, size)
        self.decoder_start = InitialState(config.hidden_maps, size)
        self.steps = nn.ModuleList(
            ConvDRAWStep(config, self.image_shape, self.canvas_shape)
            for _ in range(1 if config.tied else config.num_steps)
        )

    def at_step(self, t: int) -> Self:
        return with_parts(self, layers=self.steps[min(t, len(self.steps) - 1)])

    def initial(self, batch: int) -> ConvDRAWState:
        canvas = self.c_0.repeat(batch, 1, 1, 1)
        return ConvDRAWState(self.encoder_start(batch), self.decoder_start(batch), canvas)

    def prior(self, state: ConvDRAWState) -> Normal:
        return self.layers.prior(state.decoder.h)

    def posterior(self, x: Tensor, state: ConvDRAWState) -> tuple[Normal, ConvDRAWState]:
        error = x - self.observe.drawing(state.canvas, x.shape[1])
        read = self.layers.read(torch.cat([x, error], dim=1))
        encoder = self.layers.encoder([read, state.decoder.h], state.encoder)
        q = self.layers.posterior(torch.cat([encoder.h, state.decoder.h], dim=1))
        return q, state._replace(encoder=encoder)

    def update(self, z: Tensor, state: ConvDRAWState) -> ConvDRAWState:
        decoder = self.layers.decoder([z, self.layers.look(state.canvas)], state.decoder)
        canvas = state.canvas + full(self.layers.write(decoder.h))
        return ConvDRAWState(state.encoder, decoder, canvas)

    def features(self, state: ConvDRAWState) -> Float[Tensor, "batch features"]:
        return state.decoder.h.flatten(1)
