"""One training step: the gradient of the objective, its mean over processes, the update.

All noise of a step is a function of (seed, step, rank).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from limner.config import RunConfig
from limner.data.pixels import mixed_seed
from limner.device import noise_source
from limner.errors import InputError
from limner.layers.batch import shared_batch
from limner.models import LatentVariableModel
from limner.objectives import ObjectiveTerms, objective
from limner.progress import warn
from limner.training.compilation import drops_out, is_compile_error, reason
from limner.training.graphs import NotCapturable, Replayed, capturing
from limner.training.interrupts import StopSignals
from limner.training.noise import seeded
from limner.training.optimizer import CLEAR_EVERY, GuardedStep
from limner.training.processes import Processes
from limner.training.state import Totals


class Graphs(NamedTuple):
    """A step as CUDA graphs, with the tensors that they read."""

    x: Tensor
    beta: Tensor
    rate: Tensor
    gradient: Replayed
    update: Replayed


class Stepper:
    """Takes the steps of a training.

    Args:
        model: on the device of `processes`, in training mode.
        optimizer: of the parameters of `model`.

    `totals` sums the figures of the images that were trained on, until it is cleared.
    """

    def __init__(
        self,
        config: RunConfig,
        model: LatentVariableModel,
        optimizer: torch.optim.Optimizer,
        processes: Processes,
    ):
        self.config, self.model, self.processes = config, model, processes
        self.device = processes.device
        self.update = GuardedStep(optimizer, config.optimizer.clip_norm, self.device)
        self.totals = Totals.of(model.num_groups, self.device)
        self.noise = noise_source(self.device)
        self.drops_out = drops_out(model)
        self.graphs: Graphs | None = None
        self.signals = StopSignals()

    def __call__(self, x: Tensor, step: int, beta: float, rate: float | None) -> None:
        """Take step number `step` on the images `x` of this process.

        Args:
            beta: the weight of the KL.
            rate: the learning rate; None leaves the rates of the optimizer as they are.
        """
        self.step = step
        if self.graphs is None:
            self._ordinary(x, beta, rate)
        else:
            self._replay(self.graphs, x, beta, rate)
        if self.device.type == "cpu" and (step + 1) % CLEAR_EVERY == 0:
            self.update.clear_tiny()

    def use_graphs(self, batch: int) -> None:
        """Take all further steps, of `batch` images, as CUDA graphs.

        On a CPU the same functions run without graphs. With `compile="auto"`, steps that cannot be
        captured are taken as ordinary ones.
        """
        x = torch.zeros(batch, *self.model.image_shape, device=self.device)
        beta = torch.zeros((), device=self.device)
        rate = torch.zeros((), device=self.device, dtype=torch.float64)

        def gradient() -> None:
            self.update.optimizer.zero_grad()
            terms = self._terms(x, beta)
            self.totals.add(terms.log_likelihood, terms.kl)
            self.totals.read()

        def update() -> None:
            self.update(rate)

        self.graphs = Graphs(
            x,
            beta,
            rate,
            Replayed(gradient, self.device, [self.noise], self.model),
            Replayed(update, self.device),
        )

    def _ordinary(self, x: Tensor, beta: float, rate: float | None) -> None:
        self._seed()
        terms = self._terms(x, beta)
        self.processes.average(self._gradients())
        self.update(rate)
        self.update.optimizer.zero_grad()
        self.totals.add(terms.log_likelihood, terms.kl)

    def _replay(self, graphs: Graphs, x: Tensor, beta: float, rate: float | None) -> None:
        graphs.x.copy_(x)
        graphs.beta.fill_(beta)
        if rate is not None:
            graphs.rate.fill_(rate)
        self._seed()
        try:
            graphs.gradient()
        except NotCapturable as error:
            self._leave_graphs(error)
            self.update.optimizer.zero_grad()
            self.totals.forget_waiting()
            self._ordinary(x, beta, rate)
            return
        self.processes.average(self._gradients())
        try:
            graphs.update()
        except NotCapturable as error:
            self._leave_graphs(error)
            self.update(rate)
            self.update.optimizer.zero_grad()

    def _leave_graphs(self, error: NotCapturable) -> None:
        """Take all further steps as ordinary ones, unless the config demands graphs."""
        self.graphs = None
        if self.config.compile == "cuda-graph":
            raise InputError(
                f"This training step cannot be a CUDA graph ({error}); pass --compile auto."
            ) from None
        warn(f"This training step cannot be a CUDA graph ({error}): training is slower without.")

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.update.parameters if p.grad is not None]

    def _seed(self) -> None:
        rank = self.processes.rank
        self.noise.manual_seed(mixed_seed("latent", self.config.seed, self.step, rank))

    def _terms(self, x: Tensor, beta: float | Tensor) -> ObjectiveTerms:
        """`_gradient`; in eager mode from now on if compiling fails."""
        try:
            return self._gradient(x, beta)
        except Exception as error:
            compiling = self.model.compiled and is_compile_error(error)
            if not compiling or capturing(self.device):
                raise
            if not self.signals.received:  # Ctrl-C also ends the compiler's own processes
                warn(f"torch.compile failed ({reason(error)}): training runs eagerly, slower.")
        self.model.compiled = False
        self.update.optimizer.zero_grad()
        self._seed()
        return self._gradient(x, beta)

    def _gradient(self, x: Tensor, beta: float | Tensor) -> ObjectiveTerms:
        """Add the gradient of the negative objective to that of the parameters."""
        config, precision = self.config.objective, nullcontext()
        if self.config.precision == "bfloat16":
            precision = torch.autocast(self.device.type, torch.bfloat16)
        with precision, shared_batch(), self._random_state():
            terms = objective(
                self.model,
                x,
                generator=self.noise,
                kind=config.kind,
                num_samples=config.num_samples,
                gradient=config.gradient,
                beta=beta,
                free_bits=config.free_bits,
            )
        (-terms.value.mean()).backward()
        return terms

    @contextmanager
    def _random_state(self) -> Iterator[None]:
        """The random state of a step, for models with dropout; the caller's comes back.

        On a CPU it is that of this thread alone.
        """
        if not self.drops_out:
            yield
            return
        seed = mixed_seed("dropout", self.config.seed, self.step, self.processes.rank)
        if self.device.type == "cpu" and not self.model.compiled:
            with seeded(seed):
                yield
            return
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
