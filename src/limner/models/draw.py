"""DRAW, the Deep Recurrent Attentive Writer (Gregor et al. 2015): latent groups in time.

For t = 1..T, with c_0, h_0 learned:

    q_t = N(mu_t, sigma_t^2),  mu_t = W(h_enc_t),  sigma_t = exp(W(h_enc_t))              (1, 2)
    x_hat_t = x - sigmoid(c_{t-1});  r_t = read(x, x_hat_t, h_dec_{t-1})                  (3, 4)
    h_enc_t = LSTM_enc(h_enc_{t-1}, [r_t, h_dec_{t-1}]);  z_t ~ q_t                       (5, 6)
    h_dec_t = LSTM_dec(h_dec_{t-1}, z_t);  c_t = c_{t-1} + write(h_dec_t)                 (7, 8)

    p(z_t) = N(0, I), or learned from h_dec_{t-1} (ConvDRAW, Gregor et al. 2016)
    p(x | z) = observation(c_T), whose `drawing` of c replaces sigmoid(c) in equation 3
"""

from typing import NamedTuple, Self

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from limner.layers.attention import Windows
from limner.layers.copies import with_parts
from limner.layers.gaussian import GaussianHead, StandardNormal
from limner.layers.linear import Linear
from limner.layers.precision import full
from limner.layers.reading import FilterbankWindows, WholeImage
from limner.layers.recurrent import LSTMCell, LSTMState
from limner.models.configs import DRAWConfig
from limner.models.recurrent import RecurrentModel


class DRAWState(NamedTuple):
    """The state that one step passes to the next."""

    encoder: LSTMState
    decoder: LSTMState
    windows: Float[Tensor, "batch params"]
    """Parameters of the window just written and of the one to read next."""
    canvas: Float[Tensor, "batch maps height width"]


class DRAW(RecurrentModel):
    """DRAW: a recurrent encoder and decoder that read and write an image step by step."""

    config: DRAWConfig
    renamed = {"posterior.": "posterior_head.", "prior.": "prior_head."}  # noqa: RUF012

    def __init__(self, config: DRAWConfig, image_shape: tuple[int, int, int]):
        super().__init__(config, image_shape)
        if config.attention == "none":
            self.reader = WholeImage(self.image_shape, self.canvas_shape)
        else:
            self.reader = FilterbankWindows(
                self.image_shape, self.canvas_shape, config.read_size, config.write_size
            )
        hidden, latent = config.hidden_dim, config.latent_dim
        self.encoder = LSTMCell(self.reader.glimpse_dim + hidden, hidden)
        self.posterior_head = GaussianHead(hidden, latent)
        self.decoder = LSTMCell(latent, hidden)
        self.heads = Linear(hidden, self.reader.heads_dim)
        self.prior_head = GaussianHead(hidden, latent) if config.prior == "learned" else None
        self.reader.init_heads(self.heads, write_scale=min(1.0, 5 / config.num_steps))
        for head in filter(None, (self.posterior_head, self.prior_head)):
            head.linear.weight.data.mul_(0.3 * min(1.0, 16 / config.num_steps) ** 0.5)
            head.linear.bias.data.zero_()

    def initial(self, batch: int) -> DRAWState:
        encoder, decoder = self.encoder.initial(batch), self.decoder.initial(batch)
        windows = self.reader.window_params(full(self.heads(decoder.h)))
        return DRAWState(encoder, decoder, windows, self.c_0.repeat(batch, 1, 1, 1))

    def prior(self, state: DRAWState) -> Normal:
        if self.prior_head is not None:
            return self.prior_head(state.decoder.h)
        return StandardNormal((state.canvas.shape[0], self.config.latent_dim), like=self.c_0)

    def posterior(self, x: Tensor, state: DRAWState) -> tuple[Normal, DRAWState]:
        """Equations 1 to 5: q_t, after the encoder has read x and the error image."""
        drawing = self.observe.drawing(state.canvas, x.shape[1])
        glimpse = self.reader.read(x, drawing, state.windows)
        encoder = self.encoder([glimpse, state.decoder.h], state.encoder)
        return self.posterior_head(encoder.h), state._replace(encoder=encoder)

    def update(self, z: Tensor, state: DRAWState) -> DRAWState:
        """Equations 7 and 8: the decoder writes, and sets the next reading window."""
        decoder = self.decoder([z], state.decoder)
        heads = full(self.heads(decoder.h))
        canvas = state.canvas + self.reader.write(heads)
        return DRAWState(state.encoder, decoder, self.reader.window_params(heads), canvas)

    def windows(self, state: DRAWState) -> Windows | None:
        return self.reader.windows(state.windows)

    def features(self, state: DRAWState) -> Float[Tensor, "batch hidden"]:
        return state.decoder.h

    def at(self, x: Tensor) -> Self:
        """Without attention, the encoder's product with x is the same at every step."""
        return with_parts(self, **self.reader.at(x, self.encoder))
