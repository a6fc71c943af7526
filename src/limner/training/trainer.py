"""The training loop, one for all models.

All randomness is a function of (seed, step): the order of the images, their pixels (see
`limner.data`) and the noise of the latents. So weights, optimizer and counters are all that a
stopped run needs to resume to the bit.
"""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import NamedTuple

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from limner.data import Dataset, TrainingBatches
from limner.data.pixels import mixed_seed
from limner.errors import InputError, Stopped
from limner.layers.batch import shared_batch
from limner.models import LatentVariableModel
from limner.objectives import ObjectiveTerms, objective
from limner.progress import TrainingDisplay, warn
from limner.training import metrics
from limner.training.averaging import averaged
from limner.training.averaging import due as average_due
from limner.training.checkpoints import Checkpoints, pack, unpack
from limner.training.compilation import is_compile_error, reason
from limner.training.graphs import Replayed
from limner.training.interrupts import CompilationStopped, StopSignals
from limner.training.made import maker
from limner.training.optimizer import (
    CLEAR_EVERY,
    MAX_STREAK,
    GuardedStep,
    build_optimizer,
    kl_weight,
    learning_rate,
)
from limner.training.processes import Processes
from limner.training.runs import Run, WeightKind
from limner.training.state import Counters, Totals, figures_of
from limner.training.storage import save_tensors
from limner.training.trackers import Log
from limner.training.validation import Validator

READ_EVERY = 20
"""Steps between two readings from the device, and between two agreements of several processes."""


class Trainer:
    """Trains a model by a run's config, from its current state or from the run's checkpoint.

    Args:
        log: called with the figures of each validation.
    """

    def __init__(
        self,
        run: Run,
        dataset: Dataset,
        processes: Processes,
        model: LatentVariableModel,
        log: Log | None = None,
    ):
        config = self.config = run.config
        self.run, self.dataset, self.processes, self.log = run, dataset, processes, log
        self.device = processes.device
        self.batches = TrainingBatches(
            dataset, config.model.observation, config.batch_size, config.seed, self.device
        )
        self.model = model.to(self.device).train()
        self.average = averaged(self.model, config.ema_decay) if config.ema_decay else None
        self.step = GuardedStep(
            build_optimizer(self.model, config.optimizer), config.optimizer.clip_norm, self.device
        )
        self.noise = torch.Generator(self.device)
        self.drops_out = any(isinstance(m, nn.modules.dropout._DropoutNd) for m in model.modules())
        self.validator = Validator(config, dataset, self.batches, self.device)
        about = {"image_shape": dataset.image_shape, "config": config.model_dump(mode="json")}
        self.checkpoints = Checkpoints(run, self.validator, about)
        self.totals = Totals.of(self.model.num_groups, self.device)
        self.counters = Counters()
        self.graphs: Graphs | None = None
        self.signals = StopSignals()

    def fit(self, display: TrainingDisplay, signals: StopSignals) -> None:
        """Train until the budget is spent.

        Raises:
            Stopped: a signal asked to stop; the state is saved.
            InputError: gradients stayed non-finite.
        """
        if self.processes.is_first and self._share() < 1:
            self.run.sign(maker(self.device, self.processes.count))
        self.begin()
        while self._share() < 1:
            self.advance(display, signals)
        self._refuse_if_stuck()
        if self.counters.validated_step != self.counters.step:
            self.validate()
        self.save()
        self._show(display)

    def begin(self) -> None:
        """Start the clock."""
        self.started, self.saved = time.monotonic() - self.counters.seconds, time.monotonic()
        self.first_step, self.first_seconds = self.counters.step, self.counters.seconds

    def advance(self, display: TrainingDisplay, signals: StopSignals) -> None:
        """One step, and what is due after it: validation, figures, checkpoint, stopping."""
        x = self.batches.batch(self.counters.epoch, self.counters.index)
        self.signals = signals
        try:
            self.take_step(x[self.processes.rank :: self.processes.count])
        except CompilationStopped:
            self.step.optimizer.zero_grad()
            self.save()
            raise stopped(self.run, signals.received) from None
        if self.counters.index == 0 and self.counters.epoch % self.config.validate_every == 0:
            self.validate()
        if self.processes.count == 1 or self.counters.step % READ_EVERY == 0:
            self._attend(display, signals)

    # A step

    def take_step(self, x: Tensor) -> None:
        """One step on the images of this process."""
        counters = self.counters
        rate = learning_rate(self.config.optimizer, counters.step, self._share())
        if self.graphs is not None:
            self._replay(self.graphs, x, rate)
        else:
            self._ordinary(x, rate)
        counters.step += 1
        if self.device.type == "cpu" and counters.step % CLEAR_EVERY == 0:
            self.step.clear_tiny()
        if self.average is not None and average_due(counters.step):
            self.average.update_parameters(self.model)
        counters.index += 1
        if counters.index == self.batches.steps_per_epoch:
            counters.epoch, counters.index = counters.epoch + 1, 0
        if self.processes.count == 1:
            counters.seconds = time.monotonic() - self.started

    def _ordinary(self, x: Tensor, rate: float) -> None:
        self._seed()
        terms = self._gradient_or_none(x)
        if terms is None:
            self.model.compiled = False
            self.step.optimizer.zero_grad()
            self._seed()
            terms = self._gradient(x, self._kl_weight())
        self.processes.average(self._gradients())
        self.step(rate)
        self.step.optimizer.zero_grad()
        self.totals.add(terms.log_likelihood, terms.kl)

    def _replay(self, graphs: "Graphs", x: Tensor, rate: float) -> None:
        graphs.x.copy_(x)
        graphs.beta.fill_(self._kl_weight())
        graphs.rate.fill_(rate)
        self._seed()
        graphs.gradient()
        self.processes.average(self._gradients())
        graphs.update()

    def use_graphs(self) -> None:
        """Take all further steps as CUDA graphs; on a CPU, as the same functions without graphs."""
        batch = self.batches.batch_size // self.processes.count
        x = torch.zeros(batch, *self.dataset.image_shape, device=self.device)
        beta = torch.zeros((), device=self.device)
        rate = torch.zeros((), device=self.device, dtype=torch.float64)

        def gradient() -> None:
            self.step.optimizer.zero_grad()
            terms = self._gradient(x, beta)
            self.totals.add(terms.log_likelihood, terms.kl)
            self.totals.read()

        def update() -> None:
            self.step(rate)

        self.graphs = Graphs(
            x,
            beta,
            rate,
            Replayed(gradient, self.device, [self.noise]),
            Replayed(update, self.device),
        )

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.step.parameters if p.grad is not None]

    def _kl_weight(self) -> float:
        return kl_weight(self.config, self.counters.step / self.batches.steps_per_epoch)

    def _seed(self) -> None:
        step, rank = self.counters.step, self.processes.rank
        self.noise.manual_seed(mixed_seed("latent", self.config.seed, step, rank))

    def _gradient_or_none(self, x: Tensor) -> ObjectiveTerms | None:
        """`_gradient`, or None if compiling failed: the step is then to be taken eagerly."""
        try:
            return self._gradient(x, self._kl_weight())
        except Exception as error:
            if not (self.model.compiled and is_compile_error(error)):
                raise
            if not self.signals.received:  # Ctrl-C also ends the compiler's own processes
                warn(f"torch.compile failed ({reason(error)}): training runs eagerly, slower.")
            return None

    def _gradient(self, x: Tensor, beta: float | Tensor) -> ObjectiveTerms:
        """Add the gradient of the negative objective to that of the parameters."""
        step, rank = self.counters.step, self.processes.rank
        config, mixed = self.config.objective, self.config.precision == "bfloat16"
        precision = torch.autocast(self.device.type, torch.bfloat16) if mixed else nullcontext()
        own = nullcontext() if not self.drops_out else self._random_state(step, rank)
        with precision, shared_batch(), own:
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
    def _random_state(self, step: int, rank: int) -> Iterator[None]:
        """The global random state of a step, for models with dropout; the caller's comes back."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(mixed_seed("dropout", self.config.seed, step, rank))
            yield

    # Between steps

    def _share(self) -> float:
        """The share of the budget that is spent."""
        shares = []
        if self.config.epochs is not None:
            shares.append(self.counters.step / (self.config.epochs * self.batches.steps_per_epoch))
        if self.config.minutes is not None:
            shares.append(self.counters.seconds / (60 * self.config.minutes))
        return max(shares)

    def _attend(self, display: TrainingDisplay, signals: StopSignals) -> None:
        """Agree on the time, show figures, save if due, stop after a signal."""
        now = time.monotonic()
        due = now - self.saved > 60 * self.config.checkpoint_minutes
        stop = signals.received
        if self.processes.count > 1:
            seconds, due, stop = self.processes.largest(now - self.started, due, int(stop))
            self.counters.seconds = seconds
        if display.due():
            self._show(display)
        if self.counters.step % READ_EVERY == 0 or self.counters.index == 0:
            self._refuse_if_stuck()
        if due or stop:
            self.save()
        if stop:
            raise stopped(self.run, int(stop))

    def _refuse_if_stuck(self) -> None:
        if self.step.stuck():
            raise InputError(
                f"The gradient was not finite for {MAX_STREAK} steps in a row at epoch "
                f"{self._epochs():.2f}; train anew with a lower --optimizer.learning-rate."
            )

    def _show(self, display: TrainingDisplay) -> None:
        figures, share, counters = figures_of(self.totals.read()), self._share(), self.counters
        left = counters.seconds / share * max(0.0, 1 - share) if share else None
        shown = [f"epoch {self._epochs():.1f}"]
        if figures["elbo"] is not None:
            shown.append(f"bound {figures['elbo']:.2f}")
        if counters.best_bound is not None:
            shown.append(f"best validation {counters.best_bound:.2f}")
        shown.append(f"{self._images_per_second():,.0f} images/s")
        display.update(share, ", ".join(shown), left)

    def _epochs(self) -> float:
        return self.counters.epoch + self.counters.index / self.batches.steps_per_epoch

    def _images_per_second(self) -> float:
        steps = self.counters.step - self.first_step
        seconds = max(self.counters.seconds - self.first_seconds, 1e-9)
        return steps * self.batches.batch_size / seconds

    # Validation

    def validate(self) -> None:
        """Validate the weights that will be used, log, keep them if they are the best."""
        counters, last = self.counters, self.counters.best_bound
        if self.processes.count > 1:
            (counters.seconds,) = self.processes.largest(time.monotonic() - self.started)
        models: dict[WeightKind, nn.Module] = {"raw": self.model}
        if self.average is not None:
            models["ema"] = self.average.module
        used: WeightKind = "raw" if self.average is None else "ema"
        epoch = max(0, counters.epoch - 1)
        figures = self.validator(models[used].state_dict(), epoch)
        bound = figures[self.validator.trained_bound]
        best = last is None or (bound is not None and bound > last)
        if self.processes.is_first:
            document = {"epoch": self._epochs(), "validation_elbo": figures["elbo"]}
            self.checkpoints.keep(models, used, epoch, best, document)
        if best:
            counters.best_bound = bound
        counters.validated_step = counters.step
        self.record(figures)
        self.totals.clear()

    def record(self, validation: dict) -> None:
        """Log the figures of training since the last validation, and of this one."""
        totals = self.processes.sum(self.totals.read())
        if not self.processes.is_first:
            return
        counters = self.counters
        entry = {
            "epoch": self._epochs(),
            "step": counters.step,
            "seconds": round(counters.seconds, 3),
            "learning_rate": learning_rate(self.config.optimizer, counters.step, self._share()),
            "beta": kl_weight(self.config, self._epochs()),
            "images_per_second": round(self._images_per_second(), 1),
            "skipped_steps": int(self.step.skipped),
            "train": figures_of(totals),
            "validation": validation,
        }
        counters.metrics_bytes = metrics.append(self.run.path / "metrics.jsonl", entry)
        if self.log is not None:
            figures = {
                f"{part}/{name}": value
                for part in ("train", "validation")
                for name, value in entry[part].items()
                if isinstance(value, float)
            }
            self.log(figures, counters.step)

    # State

    @property
    def _modules(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {"model": self.model}
        return modules if self.average is None else modules | {"average": self.average}

    def save(self) -> None:
        """Write a checkpoint to resume from."""
        self.saved = time.monotonic()
        totals = self.processes.sum(self.totals.read())
        if self.processes.is_first:
            tensors = pack(self._modules, self.step.optimizer)
            tensors |= {"totals": totals, "skipped": self.step.skipped, "streak": self.step.streak}
            self.checkpoints.save(tensors, asdict(self.counters))

    def restore(self) -> None:
        """Continue from the last sound checkpoint, or from the start if none was written yet.

        Metrics after it are removed.

        Raises:
            InputError: all checkpoints are damaged or of another run, or a finished run has none.
        """
        sound, first = self.checkpoints.read(), self.processes.is_first
        try:
            if sound is not None:
                self._load(*sound[1])
        except (KeyError, TypeError, ValueError, RuntimeError):
            raise InputError(
                f"The training state in {self.run.path} does not fit its config.json; restore the "
                "folder, or train anew with --overwrite."
            ) from None
        self.processes.wait()
        if first and sound is not None:
            self.checkpoints.settle(sound[0])
        if first:
            metrics.cut_back(self.run.path / "metrics.jsonl", self.counters.metrics_bytes)
        if self.counters.validated_step >= 0:
            self._restore_best()

    def _load(self, tensors: dict[str, Tensor], document: dict) -> None:
        """Take over a checkpoint; raises an error of several types if it does not match the run."""
        self.counters = TypeAdapter(Counters).validate_json(json.dumps(document), strict=True)
        if self.counters.index >= self.batches.steps_per_epoch:
            raise ValueError
        totals = tensors.pop("totals").to(self.device)
        if self.processes.is_first:
            self.totals = Totals(totals)
        self.step.skipped = tensors.pop("skipped").to(self.device)
        self.step.streak = tensors.pop("streak").to(self.device)
        unpack(tensors, self._modules, self.step.optimizer)

    def _restore_best(self) -> None:
        """Replace damaged best weights by those of the finished model, or by the next best."""
        (best, *_), sound = self.run.weights("best"), self.checkpoints.sound_best()
        self.processes.wait()
        if sound is None:
            warn(f"{best} is damaged; the best weights from here on take its place.")
            self.counters.best_bound, self.counters.validated_step = None, -1
        elif sound[0] != best and self.processes.is_first:
            save_tensors(best, *sound[1])


class Graphs(NamedTuple):
    """A step as CUDA graphs, with the tensors that they read."""

    x: Tensor
    beta: Tensor
    rate: Tensor
    gradient: Replayed
    update: Replayed


def stopped(run: Run, signum: int) -> Stopped:
    """The error that ends a training after a signal."""
    return Stopped(
        f"Stopped by {signal.Signals(signum).name}; continue with "
        f"limner train --resume --out {run.path}",
        signum,
    )
