"""DRAW, the Deep Recurrent Attentive Writer (Gregor et al. 2015): latent groups in time.

For t = 1..T, with c_0, h_0 learned:

    q_t = N(mu_t, sigma_t^2),  mu_t = W(h_enc_t),  sigma_t = exp(W(h_enc_t))              (1, 2)
    x_hat_t = x - sigmoid(c_{t-1});  r_t = read(x, x_hat_t, h_dec_{t-1})                  (3, 4)
    h_enc_t = LSTM_enc(h_enc_{t-1}, [r_t, h_dec_{t-1}]);  z_t ~ q_t                       (5, 6)
    h_dec_t = LSTM_dec(h_dec_{t-1}, z_t);  c_t = c_{t-1} + write(h_dec_t)                 (7, 8)

    p(z_t) = N(0, I), or learned from h_dec_{t-1} (ConvDRAW, Gregor et al. 2016)
    p(x | z) = observation(c_T)
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal

from limner.layers.attention import Windows
from limner.layers.compiling import compiled
from limner.layers.gathered import Gathered, Linear
from limner.layers.gaussian import GaussianHead, normal, standard_normal
from limner.layers.precision import full
from limner.layers.reading import FilterbankWindows, WholeImage
from limner.layers.recomputed import recomputed
from limner.layers.recurrent import LSTMCell, LSTMState, lstm
from limner.models.base import (
    Divergence,
    Draws,
    Generation,
    Generator,
    Inference,
    Latent,
    LatentVariableModel,
    ModelConfig,
    Width,
    device_memory,
    divergence_of,
)
from limner.settings import Hidden


class DRAWConfig(ModelConfig):
    """Settings of DRAW. The defaults are a short DRAW without attention."""

    kind: Annotated[Literal["draw"], Hidden] = "draw"
    num_steps: Width = Field(default=10, description="steps T, each with its own latent group")
    attention: Literal["none", "filterbank"] = Field(
        default="none", description="how to read and write"
    )
    read_size: Width = Field(default=2, description="filters a side for reading (filterbank)")
    write_size: Width = Field(default=5, description="filters a side for writing (filterbank)")
    hidden_dim: Width = Field(default=256, description="width of both LSTMs")
    latent_dim: Width = Field(default=100, description="latent variables of each step")
    prior: Literal["standard", "learned"] = Field(
        default="standard", description="p(z_t): N(0, I) as in the paper, or linear in h_dec_{t-1}"
    )
    memory: Literal["auto", "store", "recompute"] = Field(
        default="auto",
        description="keep every step for the backward pass, or recompute them in chunks",
    )


class Drawing(NamedTuple):
    """What the decoder hands from step to step."""

    decoder: LSTMState
    windows: Float[Tensor, "batch windows"]
    """Parameters of where it wrote and where the encoder reads next; none without attention."""
    canvas: Float[Tensor, "batch maps height width"]


State = tuple[LSTMState, Drawing, Tensor]
"""What a step leaves: the encoder, the drawing and the KL [batch]."""


class Layers(NamedTuple):
    """The linear layers of a step."""

    encoder: Linear
    """The LSTM's, with what it needs of x at every step taken out of the recurrence."""
    posterior: Linear
    decoder: Linear
    heads: Linear


class DRAW(LatentVariableModel):
    """DRAW: a recurrent encoder and decoder that read and write an image step by step.

    `num_steps` starts at the config's and may be changed on a trained model, whose parameters are
    shared by all steps.
    """

    compiling_pays_after = 0
    config: DRAWConfig

    def __init__(self, config: DRAWConfig, image_shape: tuple[int, int, int]):
        super().__init__(config, image_shape)
        self.num_steps = config.num_steps
        if config.attention == "none":
            self.reader = WholeImage(self.image_shape, self.canvas_shape)
        else:
            self.reader = FilterbankWindows(
                self.image_shape, self.canvas_shape, config.read_size, config.write_size
            )
        hidden, latent = config.hidden_dim, config.latent_dim
        self.encoder = LSTMCell(self.reader.glimpse_dim + hidden, hidden)
        self.posterior = GaussianHead(hidden, latent)
        self.decoder = LSTMCell(latent, hidden)
        self.heads = nn.Linear(hidden, self.reader.heads_dim)
        self.prior = GaussianHead(hidden, latent) if config.prior == "learned" else None
        self.c_0 = nn.Parameter(torch.zeros(self.canvas_shape))
        self.reader.init_heads(self.heads, write_scale=min(1.0, 5 / config.num_steps))
        for head in filter(None, (self.posterior, self.prior)):
            head.linear.weight.data.mul_(0.3 * min(1.0, 16 / config.num_steps) ** 0.5)
            head.linear.bias.data.zero_()

    @property
    def group_names(self) -> list[str]:
        return [f"step {t}" for t in range(1, self.num_steps + 1)]

    def infer(
        self,
        x: Tensor,
        generator: Generator = None,
        trace: bool = False,
        *,
        divergence: Divergence = "closed_form",
        latents: Sequence[Tensor] | Literal["mean"] | None = None,
    ) -> Inference:
        draws = Draws(generator, latents)
        x = draws.spread(x)
        n = x.shape[0]
        rows = 1 if self.reader.starts_alike else n
        encoder, drawing = self.encoder.initial(rows), self._blank(rows)
        layers = self._layers
        layers = layers._replace(encoder=Linear(*self.reader.fold(*layers.encoder, x)))
        record: list[tuple[Drawing, Latent]] | None = [] if trace else None
        kl, blank = [], drawing
        recompute = torch.is_grad_enabled() and not trace and self.memory_mode(n) == "recompute"
        for steps in self._chunks(recompute):
            run = partial(self._explain, x, steps, draws.replayable(), record, divergence)
            if recompute:
                run = partial(recomputed, run)
            encoder, drawing, kl_steps = run(layers, encoder, drawing)
            kl.append(kl_steps)
        observation = self.observe(drawing.canvas)
        kl, log_likelihood = torch.cat(kl, dim=1), observation.log_prob(x)
        if record is None:
            return Inference(kl, log_likelihood)
        drawings, groups = zip(*record, strict=True)
        return Inference(
            kl,
            log_likelihood,
            list(groups),
            observation,
            torch.stack([drawing.canvas for drawing in drawings]),
            self._windows(blank, drawings),
            drawing.decoder.h,
        )

    def generate(
        self,
        n: int,
        generator: Generator = None,
        trace: bool = True,
        *,
        latents: Sequence[Tensor | None] | Literal["mean"] | None = None,
    ) -> Generation:
        draws, drawing, layers = Draws(generator, latents), self._blank(n), self._layers
        blank, drawings = drawing, []
        for t in range(self.num_steps):
            drawing, _ = self._decode(draws(t, self._prior(drawing)), drawing, layers)
            if trace:
                drawings.append(drawing)
        observation = self.observe(drawing.canvas)
        if not trace:
            return Generation(observation.mean, observation)
        canvases = torch.stack([drawing.canvas for drawing in drawings])
        windows = self._windows(blank, drawings)
        if windows is not None:
            windows = windows._replace(read=None)
        return Generation(observation.mean, observation, canvases, windows)

    def _explain(
        self,
        x: Tensor,
        steps: range,
        replay: Callable[[], Draws],
        record: list[tuple[Drawing, Latent]] | None,
        divergence: Divergence,
        layers: Layers,
        encoder: LSTMState,
        drawing: Drawing,
    ) -> tuple[LSTMState, Drawing, Tensor]:
        """Several steps of an inference; the KL is [batch, steps]."""
        draws, kl = replay(), []
        like = x.new_empty(x.shape[0], self.config.latent_dim)
        compiling = self.compiled and record is None
        gathering = record is None and _gathering_pays(x)
        gathered = Gathered(layers, compiling) if gathering else None
        for t in steps:
            all_rows = len(encoder.c) == len(x)  # what happens once is not worth compiling
            step = compiled(DRAW._step, x.device.type) if compiling and all_rows else DRAW._step
            noise, given = draws.noise(t, like), draws.given(t)
            now = Layers(*gathered.step(len(x))) if gathered is not None else layers
            (encoder, drawing, kl_t), (seen, thought), latent = step(
                self, x, now, encoder, drawing, noise, given, divergence, record is not None
            )
            if gathered is not None:
                gathered.keep(seen, encoder.h, thought, drawing.decoder.h)
            kl.append(kl_t)
            if record is not None and latent is not None:
                record.append((drawing, latent))
        return encoder, drawing, torch.stack(kl, dim=1)

    def _step(
        self,
        x: Tensor,
        layers: Layers,
        encoder: LSTMState,
        drawing: Drawing,
        noise: Tensor,
        z: Tensor | None,
        divergence: Divergence,
        trace: bool,
    ) -> tuple[State, tuple[Tensor, Tensor], Latent | None]:
        """One step: z_t is drawn with `noise` unless given. Also each LSTM's input, detached."""
        p = self._prior(drawing) if self.prior is not None or trace else None
        encoder, seen = self._encode(x, layers, encoder, drawing)
        q = normal(*layers.posterior(encoder.h).chunk(2, dim=-1))
        if z is None:
            z = q.loc + q.scale * noise
        kl = divergence_of(q, p if self.prior is not None else None, z, divergence)
        drawing, thought = self._decode(z, drawing, layers)
        latent = Latent(q, p.expand(q.batch_shape), z) if p is not None and trace else None
        return (encoder, drawing, kl), (seen.detach(), thought.detach()), latent

    def _encode(
        self, x: Tensor, layers: Layers, encoder: LSTMState, drawing: Drawing
    ) -> tuple[LSTMState, Tensor]:
        """Equations 3 to 5, and what went into the LSTM."""
        drawn = torch.sigmoid(drawing.canvas[:, : x.shape[1]])
        glimpse = self.reader.glimpse(x, drawn, drawing.windows)
        inputs = torch.cat([glimpse, drawing.decoder.h, encoder.h], dim=1)
        return lstm(layers.encoder(inputs), encoder.c), inputs

    def _decode(self, z: Tensor, drawing: Drawing, layers: Layers) -> tuple[Drawing, Tensor]:
        """Equations 7 and 8, and what went into the LSTM."""
        inputs = torch.cat([z, drawing.decoder.h.expand(len(z), -1)], dim=1)
        decoder = lstm(layers.decoder(inputs), drawing.decoder.c)
        heads = layers.heads(decoder.h)
        canvas = drawing.canvas + self.reader.stroke(heads)
        return Drawing(decoder, self._windows_in(heads), canvas), inputs

    def _prior(self, drawing: Drawing) -> Normal:
        if self.prior is not None:
            return self.prior(drawing.decoder.h)
        return standard_normal(drawing.canvas.shape[0], self.config.latent_dim, like=self.c_0)

    def memory_mode(self, batch: int) -> Literal["store", "recompute"]:
        """What `memory="auto"` means for training on `batch` images here.

        `recompute` where storing all steps would take more than a quarter of the device's memory.
        """
        if self.config.memory != "auto":
            return self.config.memory
        stored = 4 * batch * self.num_steps * self._floats_a_step
        return "store" if stored < device_memory(self.c_0.device) / 4 else "recompute"

    def stored_bytes(self, batch: int) -> int:
        """Estimate of what training keeps for the backward pass."""
        if self.memory_mode(batch) == "store":
            return 4 * batch * self.num_steps * self._floats_a_step
        between = 4 * self.config.hidden_dim + self.reader.heads_dim + math.prod(self.canvas_shape)
        return 4 * batch * math.ceil(math.sqrt(self.num_steps)) * (self._floats_a_step + between)

    @property
    def _floats_a_step(self) -> int:
        config = self.config
        floats = 20 * config.hidden_dim + 8 * config.latent_dim + 2 * self.reader.glimpse_dim
        return floats + 4 * math.prod(self.canvas_shape)

    def _chunks(self, recompute: bool) -> list[range]:
        """Steps in one chunk, or in chunks of about sqrt(T) whose boundaries alone are stored."""
        size = math.ceil(math.sqrt(self.num_steps)) if recompute else self.num_steps
        return [
            range(first, min(first + size, self.num_steps))
            for first in range(0, self.num_steps, size)
        ]

    @property
    def _layers(self) -> Layers:
        layers = (self.encoder, self.posterior.linear, self.decoder, self.heads)
        return Layers(*(Linear(layer.weight, layer.bias) for layer in layers))

    @property
    def _output_bias(self) -> nn.Parameter:
        return self.c_0

    def _blank(self, batch: int) -> Drawing:
        """c_0 and h_0, before the first step."""
        decoder = self.decoder.initial(batch)
        windows = self._windows_in(full(self.heads(decoder.h)))
        return Drawing(decoder, windows, self.c_0.repeat(batch, 1, 1, 1))

    def _windows_in(self, heads: Tensor) -> Float[Tensor, "batch windows"]:
        """Dense, so that the first step and all others are one compiled region."""
        return heads[:, self.reader.patch_dim :].clone(memory_format=torch.contiguous_format)

    def _windows(self, blank: Drawing, drawings: Sequence[Drawing]) -> Windows | None:
        """Windows of all steps: reading looks where the step before said."""
        params = torch.broadcast_tensors(*(drawing.windows for drawing in (blank, *drawings)))
        return self.reader.windows(torch.stack(params[:-1]), torch.stack(params[1:]))


def _gathering_pays(x: Tensor) -> bool:
    """Whether weight gradients are added up in place: in plain training on a CPU."""
    return (
        torch.is_grad_enabled() and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    )
