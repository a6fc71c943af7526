"""A convolutional recurrent model with latent maps, as a user would write one."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from limner.layers.gaussian import normal
from limner.models import RecurrentConfig, RecurrentModel, register


class MapDrawConfig(RecurrentConfig):
    kind: Literal["map-draw"] = "map-draw"
    maps: int = 2
    dropout: float = 0.0


class State(NamedTuple):
    features: Tensor
    canvas: Tensor


class MapDraw(RecurrentModel):
    """p(z_t) from the features, q(z_t) from features and error image; z_t [2, H, W]."""

    def __init__(self, config: MapDrawConfig, image_shape: tuple[int, int, int]):
        super().__init__(config, image_shape)
        maps, (channels, height, width) = config.maps, self.image_shape
        self.h_0 = nn.Parameter(torch.zeros(maps, height, width))
        self.p = nn.Conv2d(maps, 2 * maps, 3, padding=1)
        self.q = nn.Conv2d(maps + channels, 2 * maps, 3, padding=1)
        self.mix = nn.Conv2d(2 * maps, maps, 3, padding=1)
        self.write = nn.Conv2d(maps, self.canvas_shape[0], 1)
        self.dropout = nn.Dropout(config.dropout)

    def initial(self, batch: int) -> State:
        return State(self.h_0.repeat(batch, 1, 1, 1), self.c_0.repeat(batch, 1, 1, 1))

    def prior(self, state: State) -> Normal:
        return normal(*self.p(state.features).chunk(2, dim=1))

    def posterior(self, x: Tensor, state: State) -> tuple[Normal, State]:
        error = x - self.observe.drawing(state.canvas, x.shape[1])
        seen = torch.cat([state.features, error], dim=1)
        return normal(*self.q(seen).chunk(2, dim=1)), state

    def update(self, z: Tensor, state: State) -> State:
        features = torch.tanh(self.mix(torch.cat([z, state.features], dim=1)))
        features = self.dropout(features)
        return State(features, state.canvas + self.write(features))


register(MapDraw, MapDrawConfig)
