"""DRAW without attention whose encoder and decoder are GRUs (Cho et al. 2014).

GRU(h, v) = (1 - u) n + u h;   r, u = sigmoid(W [v, h]);   n = tanh(W [v, r h])
h_enc_t = GRU(h_enc_{t-1}, [x, x - sigmoid(c_{t-1}), h_dec_{t-1}]);   q_t = N(mu, sigma^2)(h_enc_t)
h_dec_t = GRU(h_dec_{t-1}, z_t);   c_t = c_{t-1} + W(h_dec_t);   p(z_t) = N(0, I)
"""

from math import prod
from typing import Literal, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from limner.layers.gaussian import GaussianHead, StandardNormal
from limner.layers.linear import Linear
from limner.models import RecurrentConfig, RecurrentModel


class GRUDrawConfig(RecurrentConfig):
    """Widths of a DRAW with GRUs."""

    kind: Literal["gru-draw"] = "gru-draw"
    hidden_dim: PositiveInt = Field(default=128, description="width of both GRUs")
    latent_dim: PositiveInt = Field(default=16, description="latent variables of each step")


class GRU(nn.Module):
    def __init__(self, in_dim: int, hidden_dim: int):
        super().__init__()
        self.gates = Linear(in_dim + hidden_dim, 2 * hidden_dim)
        self.candidate = Linear(in_dim + hidden_dim, hidden_dim)

    def forward(self, v: Tensor, h: Tensor) -> Tensor:
        r, u = self.gates(torch.cat([v, h], dim=1)).sigmoid().chunk(2, dim=1)
        return (1 - u) * self.candidate(torch.cat([v, r * h], dim=1)).tanh() + u * h


class State(NamedTuple):
    encoder: Tensor
    decoder: Tensor
    canvas: Tensor


class GRUDraw(RecurrentModel):
    def __init__(self, config: GRUDrawConfig, image_shape: tuple[int, int, int]):
        super().__init__(config, image_shape)
        hidden, latent = config.hidden_dim, config.latent_dim
        self.encoder = GRU(2 * prod(self.image_shape) + hidden, hidden)
        self.head = GaussianHead(hidden, latent)
        self.decoder = GRU(latent, hidden)
        self.write = Linear(hidden, prod(self.canvas_shape))
        self.h_0 = nn.Parameter(torch.zeros(2, hidden))

    def initial(self, batch):
        return State(*self.h_0.expand(batch, -1, -1).unbind(1), self.c_0.expand(batch, -1, -1, -1))

    def prior(self, state):
        return StandardNormal((len(state.decoder), self.config.latent_dim), like=state.decoder)

    def posterior(self, x, state):
        x_hat = x - self.observe.drawing(state.canvas, x.shape[1])
        seen = torch.cat([x.flatten(1), x_hat.flatten(1), state.decoder], dim=1)
        encoder = self.encoder(seen, state.encoder)
        return self.head(encoder), state._replace(encoder=encoder)

    def update(self, z, state):
        decoder = self.decoder(z, state.decoder)
        canvas = state.canvas + self.write(decoder).unflatten(1, self.canvas_shape)
        return State(state.encoder, decoder, canvas)
