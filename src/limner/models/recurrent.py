"""Recurrent models: a cell unrolled over T steps, one latent group per step.

For t = 1..T, with a learned state s_0:

    p_t = prior(s_{t-1});   q_t, s_t = posterior(x, s_{t-1});   z_t ~ q_t   (p_t if x is absent)
    s_t = update(z_t, s_t);   c_t = canvas(s_t);   p(x | z) = observation(c_T)

Steps share their parameters, unless a model overrides `at_step`. A model defines the cell.
`RecurrentModel` does the rest: inference, generation, traces, storing or recomputing steps,
compiling, and summing weight gradients over steps.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal
from torch.utils._pytree import tree_leaves

from limner.errors import InputError
from limner.layers.attention import Window, Windows
from limner.layers.compiling import compiled
from limner.layers.copies import with_tensors
from limner.layers.gathered import Gathered
from limner.layers.recomputed import recomputed
from limner.models.base import (
    Divergence,
    Generation,
    Inference,
    Latent,
    LatentVariableModel,
    divergence_of,
)
from limner.models.configs import Memory, RecurrentConfig
from limner.models.draws import Draws
from limner.models.memory import SavedFloats, device_memory, saved_per_image
from limner.transforms import transformed

State = Any
"""A NamedTuple of tensors [batch, ...], possibly nested."""


class RecurrentModel(LatentVariableModel):
    """A cell and its unrolling. A subclass defines `initial`, `prior`, `posterior` and `update`.

    `num_steps` and `memory` are taken from the config and may be changed at any time.
    """

    compiling_pays_after = 200
    num_steps: int
    memory: Memory
    starts_alike: bool = False
    """Whether the state before the first step is one row, shared by all images."""

    def __init__(self, config: RecurrentConfig, image_shape: Sequence[int]):
        super().__init__(config, image_shape)
        self.num_steps, self.memory = config.num_steps, config.memory
        self.c_0 = nn.Parameter(torch.zeros(self.canvas_shape))

    # The cell

    @abstractmethod
    def initial(self, batch: int) -> State:
        """s_0 for `batch` images; its canvas is c_0."""

    @abstractmethod
    def prior(self, state: State) -> Normal:
        """p(z_t | z_1..z_{t-1}) [batch, *latent_shape]."""

    @abstractmethod
    def posterior(self, x: Tensor, state: State) -> tuple[Normal, State]:
        """q(z_t | z_1..z_{t-1}, x) [batch, *latent_shape], and the state after the encoder."""

    @abstractmethod
    def update(self, z: Tensor, state: State) -> State:
        """The state after the decoder's update with z_t, including the canvas."""

    def canvas(self, state: State) -> Float[Tensor, "batch maps height width"]:
        """The canvas [batch, *canvas_shape] after a step: `state.canvas` unless overridden."""
        return state.canvas

    def windows(self, state: State) -> Windows | None:
        """The window just written and the one to read next; None in models without windows."""

    def features(self, state: State) -> Float[Tensor, "batch features"]:
        """The decoder's state as a vector: the last deterministic features before the image."""
        return self.canvas(state).flatten(1)

    def at(self, x: Tensor) -> Self:
        """This cell for inference on `x`; may precompute what is the same at every step."""
        return self

    def at_step(self, t: int) -> Self:
        """The cell of step t = 0..T-1: the same for all, unless steps have weights of their own."""
        return self

    # The unrolling

    @cached_property
    def latent_shape(self) -> tuple[int, ...]:
        try:
            with torch.no_grad():
                return tuple(self.at_step(0).prior(self.initial(1)).loc.shape[1:])
        except AttributeError as error:  # a property of a module would hide it
            raise TypeError(f"initial or prior of {type(self).__name__}: {error}") from error

    @property
    def latent_shapes(self) -> list[tuple[int, ...]]:
        return [self.latent_shape] * self.num_steps

    @property
    def group_names(self) -> list[str]:
        return [f"step {t}" for t in range(1, self.num_steps + 1)]

    @property
    def _output_bias(self) -> nn.Parameter:
        return self.c_0

    def _infer(self, x: Tensor, draws: Draws, divergence: Divergence, trace: bool) -> Inference:
        x = draws.spread(x)
        cell = self.at(x)
        state = _checked(cell.initial(min(1, len(x)) if cell.starts_alike else len(x)))
        record = _Record(cell, state) if trace else None
        parameters = dict(cell.named_parameters())
        recompute = self._recomputes(len(x)) and record is None and not draws.requires_grad
        kl = []
        for steps in self._chunks(recompute):
            replay = draws.replayable() if recompute else lambda: draws
            run = partial(_unrolled, cell, steps, replay, divergence, record, recompute)
            run = partial(recomputed, run) if recompute else run
            state, kl_steps = run(parameters, x, state)
            kl.append(kl_steps)
        observation = self.observe(cell.canvas(state))
        kl, log_likelihood = torch.cat(kl, dim=1), observation.log_prob(x)
        if record is None:
            return Inference(kl, log_likelihood)
        return Inference(
            kl,
            log_likelihood,
            record.latents,
            observation,
            record.canvases(),
            record.windows(),
            cell.features(state),
        )

    def _generate(self, n: int, draws: Draws, trace: bool) -> Generation:
        state = self.initial(n)
        record = _Record(self, state) if trace else None
        for t in range(self.num_steps):
            cell = self.at_step(t)
            p = cell.prior(state)
            z = draws(t, p)
            state = cell.update(z, state)
            if record is not None:
                record.add(state, Latent(p, p, z))
        observation = self.observe(self.canvas(state))
        if record is None:
            return Generation(observation.mean, observation)
        windows = record.windows()
        return Generation(
            observation.mean,
            observation,
            record.canvases(),
            None if windows is None else windows._replace(read=None),
            [latent.z for latent in record.latents],
        )

    def _run(self, x: Tensor, draws: Draws, divergence: Divergence, trace: bool) -> Inference:
        """Noise is drawn step by step on a CPU; steps are compiled, not the whole."""
        if x.device.type == "cuda":
            draws = draws.ahead(self.latent_shapes, x)
        return self._infer(x, draws, divergence, trace)

    # Memory

    @cached_property
    def saved_floats(self) -> SavedFloats:
        trial, counts = with_tensors(self, {}), list[int]()
        trial.memory = "store"
        for trial.num_steps in (2, 3):
            try:
                counts.append(saved_per_image(trial))
            except AttributeError as error:  # a property of a module would hide it
                raise TypeError(f"A step of {type(self).__name__}: {error}") from error
        per_step = counts[1] - counts[0]
        return SavedFloats(max(0, counts[0] - 2 * per_step), per_step)

    def memory_mode(self, batch: int) -> Literal["store", "recompute"]:
        """The mode that `memory="auto"` selects for training on `batch` images on this device.

        `recompute` if storing all steps would take more than a quarter of the device's memory.
        """
        if self.memory != "auto":
            return self.memory
        stored = self._bytes_of_steps(batch, self.num_steps)
        return "store" if stored < device_memory(self.c_0.device) / 4 else "recompute"

    def stored_bytes(self, batch: int) -> int:
        """Estimate of the bytes that training on `batch` images keeps for the backward pass."""
        if self.memory_mode(batch) == "store":
            return self._bytes_of_steps(batch, self.num_steps)
        chunk = math.ceil(math.sqrt(self.num_steps))
        between = sum(leaf.nbytes for leaf in tree_leaves(self.initial(1)))
        return self._bytes_of_steps(batch, chunk) + batch * chunk * between

    def _bytes_of_steps(self, batch: int, steps: int) -> int:
        once, per_step = self.saved_floats
        return self.c_0.element_size() * batch * (once + steps * per_step)

    def _recomputes(self, batch: int) -> bool:
        plain = torch.is_grad_enabled() and not transformed()
        return plain and self.memory_mode(batch) == "recompute"

    def _chunks(self, recompute: bool) -> list[range]:
        """All steps in one chunk; to recompute, chunks of about sqrt(T) steps."""
        size = math.ceil(math.sqrt(self.num_steps)) if recompute else self.num_steps
        return [
            range(first, min(first + size, self.num_steps))
            for first in range(0, self.num_steps, size)
        ]


class _Record:
    """The trace of an unrolling: every state, and the latents of every step."""

    def __init__(self, cell: RecurrentModel, state: State):
        self.cell = cell
        self.states, self.latents = [state], list[Latent]()

    def add(self, state: State, latent: Latent) -> None:
        self.states.append(state)
        self.latents.append(latent)

    def canvases(self) -> Float[Tensor, "steps batch maps height width"]:
        return torch.stack([self.cell.canvas(state) for state in self.states[1:]])

    def windows(self) -> Windows | None:
        """Windows of all steps. The state before a step holds the step's reading window."""
        found = [windows for state in self.states if (windows := self.cell.windows(state))]
        if not found:
            return None
        read = [windows.read for windows in found[:-1] if windows.read is not None]
        return Windows(_stacked(read), _stacked([windows.write for windows in found[1:]]))


def _checked(state: State) -> State:
    """Refuse a state of anything but tensors [batch, ...]."""
    for leaf in tree_leaves(state):
        if not isinstance(leaf, Tensor) or leaf.dim() == 0:
            raise InputError(
                f"A state consists of tensors [batch, ...] alone, and this one has {leaf!r:.80}; "
                "keep everything else in the model."
            )
    return state


def _stacked(windows: Sequence[Window]) -> Window:
    fields = (torch.broadcast_tensors(*field) for field in zip(*windows, strict=True))
    return Window(*map(torch.stack, fields))


def _unrolled(
    cell: RecurrentModel,
    steps: range,
    replay: Callable[[], Draws],
    divergence: Divergence,
    record: _Record | None,
    recompute: bool,
    parameters: Mapping[str, Tensor],
    x: Tensor,
    state: State,
) -> tuple[State, Float[Tensor, "batch steps"]]:
    """The state after several steps of inference with `parameters`, and the KL of each step."""
    draws, batch, kl = replay(), len(x), []
    compiling = cell.compiled and record is None
    gathered = None
    if torch.is_grad_enabled():  # a repeated chunk must not count its batches twice
        cell = with_tensors(cell, parameters, own_buffers=recompute)
    if record is None and _gathering_pays(x):
        gathered = Gathered(cell, batch, len(steps), compiling)
    like = x.new_empty(batch, *cell.latent_shape)
    for t in steps:
        here = cell.at_step(t)
        if record is not None:
            state, kl_t, latent = _traced_step(here, x, state, partial(draws, t), divergence)
            record.add(state, latent)
            kl.append(kl_t)
            continue
        once = t == steps[0] and any(leaf.shape[0] < batch for leaf in tree_leaves(state))
        step = compiled(_step, x.device.type) if compiling and not once else _step
        if gathered is not None:
            gathered.begin()
        state, kl_t = step(here, x, state, draws.noise(t, like), draws.given(t), divergence)
        if gathered is not None:
            gathered.end()
        kl.append(kl_t)
    return state, torch.stack(kl, dim=1)


def _step(
    cell: RecurrentModel,
    x: Tensor,
    state: State,
    noise: Tensor,
    z: Tensor | None,
    divergence: Divergence,
) -> tuple[State, Float[Tensor, " batch"]]:
    """One step of inference, as a function of tensors. z_t is drawn with `noise` unless given."""
    p = cell.prior(state)
    q, state = cell.posterior(x, state)
    z = q.loc + q.scale * noise if z is None else z
    return cell.update(z, state), divergence_of(q, p, z, divergence)


def _traced_step(
    cell: RecurrentModel,
    x: Tensor,
    state: State,
    draw: Callable[[Normal, Normal], Tensor],
    divergence: Divergence,
) -> tuple[State, Float[Tensor, " batch"], Latent]:
    """One step of inference with z_t from `draw`, and its latent group."""
    p = cell.prior(state)
    q, state = cell.posterior(x, state)
    wide = _expanded(p, q)
    z = draw(q, wide)
    return cell.update(z, state), divergence_of(q, p, z, divergence), Latent(q, wide, z)


def _expanded(p: Normal, q: Normal) -> Normal:
    """`p` with as many rows as `q`."""
    if p.loc.shape == q.loc.shape:
        return p
    return Normal(p.loc.expand_as(q.loc), p.scale.expand_as(q.loc), validate_args=False)


def _gathering_pays(x: Tensor) -> bool:
    """Whether weight gradients are summed in place: on a CPU, without autocast or torch.func."""
    plain = torch.is_grad_enabled() and not transformed()
    return plain and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
