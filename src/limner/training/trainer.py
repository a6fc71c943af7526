"""The training loop, one for all models.

All randomness is a function of (seed, step): the order of the images, their pixels (see
`limner.data`) and the noise of the latents. So weights, optimizer and counters are all that a
stopped run needs to resume to the bit.
"""

import json
import time
from dataclasses import asdict, dataclass

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from limner.config import RunConfig
from limner.data import Dataset, TrainingBatches
from limner.device import summing_device
from limner.errors import InputError
from limner.models import LatentVariableModel, RecurrentModel
from limner.progress import TrainingDisplay, warn
from limner.storage import save_tensors
from limner.training import metrics
from limner.training.averaging import averaged
from limner.training.averaging import due as average_due
from limner.training.callback import Callback, TrainingState
from limner.training.checkpoints import Checkpoints, pack, unpack
from limner.training.history import History
from limner.training.interrupts import CompilationStopped, StopSignals
from limner.training.made import maker
from limner.training.memory import InMemory
from limner.training.optimizer import MAX_STREAK, build_optimizer, kl_weight, learning_rate
from limner.training.processes import Processes
from limner.training.runs import Run, WeightKind
from limner.training.state import Counters, Totals, figures_of
from limner.training.stepper import Stepper
from limner.training.trackers import Log
from limner.training.validation import Validator

READ_EVERY = 20
"""Steps between two readings from the device, and between two agreements of several processes."""


@dataclass(frozen=True)
class Extras:
    """What a training may have beside its config.

    `log` and `callback` are called after each validation, `callback` also after every `every`
    steps. The learning rates of an `optimizer` of one's own stay as they are.
    """

    log: Log | None = None
    callback: Callback | None = None
    every: int | None = None
    optimizer: torch.optim.Optimizer | None = None


NO_EXTRAS = Extras()


class Trainer:
    """Trains a model by a config, from its current state or from the checkpoint of a run.

    Args:
        model: on the device of `processes`.
        run: the run folder to write; None keeps the best weights in memory.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        processes: Processes,
        model: LatentVariableModel,
        run: Run | None = None,
        extras: Extras = NO_EXTRAS,
    ):
        self.config, self.dataset, self.processes, self.run = config, dataset, processes, run
        self.device, self.extras = processes.device, extras
        self.batches = TrainingBatches(
            dataset, config.model.observation, config.batch_size, config.seed, self.device
        )
        self.model = model.train()
        self.validator = Validator(config, dataset, self.batches, model)
        self.average = averaged(model, config.ema_decay) if config.ema_decay else None
        optimizer = extras.optimizer or build_optimizer(model, config.optimizer)
        self.stepper = Stepper(config, model, optimizer, processes)
        self.counters, self.history = Counters(), History()
        self.rate: float | None = None
        self.validation: dict = {}
        self.asked_to_stop = False
        if run is None:
            self.kept = InMemory(self.validator)
        else:
            about = {"image_shape": dataset.image_shape, "config": config.model_dump(mode="json")}
            self.kept = Checkpoints(run, self.validator, about, extras.log)

    def fit(self, display: TrainingDisplay, signals: StopSignals) -> None:
        """Train until the budget is spent, or until the callback stops it.

        Raises:
            Stopped: a signal asked to stop; the state is saved.
            InputError: gradients stayed non-finite.
        """
        if self.run is not None and self.processes.is_first and self.share() < 1:
            self.run.sign(maker(self.device, self.processes.count))
        self.begin()
        while self.share() < 1 and not self.asked_to_stop:
            self.advance(display, signals)
        self._refuse_if_stuck()
        self.finish()
        self._show(display)

    def begin(self) -> None:
        """Start the clock."""
        self.started, self.saved = time.monotonic() - self.counters.seconds, time.monotonic()
        self.first_step, self.first_seconds = self.counters.step, self.counters.seconds

    def advance(self, display: TrainingDisplay, signals: StopSignals) -> None:
        """One step, and what is due after it: validation, figures, checkpoint, stopping."""
        counters, every = self.counters, self.extras.every
        x = self.batches.batch(counters.epoch, counters.index)
        self.stepper.signals = signals
        try:
            self.take_step(x[self.processes.rank :: self.processes.count])
        except CompilationStopped:
            self.stepper.update.optimizer.zero_grad()
            self.save()
            raise self.kept.stopped(signals.received) from None
        if counters.index == 0 and counters.epoch % self.config.validate_every == 0:
            self.validate()
        elif every is not None and counters.step % every == 0:
            self._call_back(self._entry(), validated=False)
        if self.processes.count == 1 or counters.step % READ_EVERY == 0:
            self._attend(display, signals)

    def take_step(self, x: Tensor) -> None:
        """One step on the images of this process."""
        counters = self.counters
        if counters.index == 0 and self.config.growth:
            self._grow()
        beta = kl_weight(self.config, counters.step, self.batches.steps_per_epoch)
        self.rate = self._rate()
        self.stepper(x, counters.step, beta, self.rate)
        counters.step += 1
        if self.average is not None and average_due(counters.step):
            self.average.update_parameters(self.model)
        counters.index += 1
        if counters.index == self.batches.steps_per_epoch:
            counters.epoch, counters.index = counters.epoch + 1, 0
        if self.processes.count == 1:
            counters.seconds = time.monotonic() - self.started

    def use_graphs(self) -> None:
        """Take all further steps as CUDA graphs."""
        self.stepper.use_graphs(self.batches.batch_size // self.processes.count)

    def _grow(self) -> None:
        """Give a recurrent model the steps that are due; never fewer than before.

        Bounds of fewer steps do not count against those of more.
        """
        counters = self.counters
        steps = max(counters.num_steps or 0, self.config.steps_at(self.share()))
        if counters.num_steps == steps:
            return
        counters.num_steps, counters.best_bound = steps, None
        self._set_steps(steps)
        if self.stepper.graphs is not None:
            self.use_graphs()

    def _set_steps(self, steps: int) -> None:
        models = [self.model, self.validator.model]
        for model in models if self.average is None else [*models, self.average.module]:
            assert isinstance(model, RecurrentModel)
            model.num_steps = steps
        self.stepper.totals = Totals.of(steps, self.device)

    def finish(self) -> None:
        """Validate the last weights if this is not done yet, save, and export the best."""
        self.validate_if_due()
        self.save()
        if self.processes.is_first:
            self.kept.export()

    def validate_if_due(self, calls_back: bool = True) -> None:
        """Validate unless the last step has been."""
        if self.counters.validated_step != self.counters.step:
            self.validate(calls_back)

    def best(self) -> dict[str, Tensor]:
        """The best weights by validation; the present ones if there was none."""
        return self.kept.best() or self._shown_model().state_dict()

    # Between steps

    def share(self) -> float:
        """The share of the budget that is spent."""
        shares = []
        if self.config.epochs is not None:
            shares.append(self.counters.step / (self.config.epochs * self.batches.steps_per_epoch))
        if self.config.minutes is not None:
            shares.append(self.counters.seconds / (60 * self.config.minutes))
        return max(shares)

    def _rate(self) -> float | None:
        """The learning rate of the next step; None if the optimizer has its own."""
        if self.extras.optimizer is not None:
            return None
        return learning_rate(self.config.optimizer, self.counters.step, self.share())

    def _attend(self, display: TrainingDisplay, signals: StopSignals) -> None:
        """Agree on the time, show figures, save if due, stop after a signal."""
        now = time.monotonic()
        due = now - self.saved > 60 * self.config.checkpoint_minutes
        stop = signals.received
        if self.processes.count > 1:
            seconds, due, stop, asked = self.processes.largest(
                now - self.started, due, int(stop), self.asked_to_stop
            )
            self.counters.seconds, self.asked_to_stop = seconds, bool(asked)
        if display.due():
            self._show(display)
        if self.counters.step % READ_EVERY == 0 or self.counters.index == 0:
            self._refuse_if_stuck()
        if due or stop:
            self.save()
        if stop:
            raise self.kept.stopped(int(stop))

    def _refuse_if_stuck(self) -> None:
        if self.stepper.update.stuck():
            raise InputError(
                f"The gradient was not finite for {MAX_STREAK} steps in a row at epoch "
                f"{self._epochs():.2f}; train anew with a lower --optimizer.learning-rate."
            )

    def _show(self, display: TrainingDisplay) -> None:
        figures, share = figures_of(self.stepper.totals.read()), self.share()
        counters = self.counters
        left = counters.seconds / share * max(0.0, 1 - share) if share else None
        total = "" if self.config.epochs is None else f" of {self.config.epochs:,}"
        shown = [f"epoch {self._epochs():.1f}{total}"]
        if figures["elbo"] is not None:
            shown.append(f"-ELBO {-figures['elbo']:.1f}")
        if counters.best_bound is not None:
            shown.append(f"best validation {self.validator.shown} {-counters.best_bound:.2f}")
        shown.append(f"{self._images_per_second():,.0f} images/s")
        display.update(share, ", ".join(shown), left)

    def _epochs(self) -> float:
        return self.counters.epoch + self.counters.index / self.batches.steps_per_epoch

    def _images_per_second(self) -> float:
        steps = self.counters.step - self.first_step
        seconds = max(self.counters.seconds - self.first_seconds, 1e-9)
        return steps * self.batches.batch_size / seconds

    # Validation

    @property
    def _used(self) -> tuple[WeightKind, nn.Module]:
        """The weights that are validated and used: the average if there is one."""
        return ("raw", self.model) if self.average is None else ("ema", self.average.module)

    def validate(self, calls_back: bool = True) -> None:
        """Validate the weights that will be used, log, keep them if they are the best."""
        counters, last = self.counters, self.counters.best_bound
        if self.processes.count > 1:
            (counters.seconds,) = self.processes.largest(time.monotonic() - self.started)
        used, module = self._used
        models: dict[WeightKind, nn.Module] = {"raw": self.model, used: module}
        epoch = max(0, counters.epoch - 1)
        self.validation = self.validator(module.state_dict(), epoch)
        bound = self.validation[self.validator.trained_bound]
        best = last is None or (bound is not None and bound > last)
        if self.processes.is_first or self.run is None:
            elbo = self.validation["elbo"]
            document = {"epoch": self._epochs(), "validation_elbo": elbo}
            if counters.num_steps is not None:
                document["num_steps"] = counters.num_steps
            self.kept.keep(models, used, epoch, best, document)
        if best:
            counters.best_bound = bound
        counters.validated_step = counters.step
        entry = self._entry()
        if self.processes.is_first:
            counters.metrics_bytes = self.kept.record(entry)
        self.history.append(entry)
        self.stepper.totals.clear()
        if calls_back:
            self._call_back(entry, validated=True)

    def _entry(self) -> dict:
        """The figures of training since the last validation, and of that validation."""
        totals, counters = self.processes.sum(self.stepper.totals.read()), self.counters
        rate = self.rate
        if rate is None:
            rate = float(self.stepper.update.optimizer.param_groups[0]["lr"])
        return {
            "epoch": self._epochs(),
            "step": counters.step,
            "seconds": round(counters.seconds, 3),
            "learning_rate": rate,
            "beta": kl_weight(self.config, counters.step, self.batches.steps_per_epoch),
            "images_per_second": round(self._images_per_second(), 1),
            "skipped_steps": int(self.stepper.update.skipped),
            "train": figures_of(totals),
            "validation": self.validation,
        }

    def _call_back(self, entry: dict, validated: bool) -> None:
        if self.extras.callback is None:
            return
        state = TrainingState(
            entry["epoch"],
            entry["step"],
            entry["seconds"],
            entry["train"],
            entry["validation"],
            validated,
            self._shown_model,
            self._stop,
        )
        self.extras.callback(state)

    def _shown_model(self) -> LatentVariableModel:
        self.validator.with_statistics(
            self._used[1].state_dict(), max(0, self.counters.epoch - (self.counters.index == 0))
        )
        return self.validator.model.eval()

    def _stop(self) -> None:
        self.asked_to_stop = True

    # State

    @property
    def _modules(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {"model": self.model}
        return modules if self.average is None else modules | {"average": self.average}

    def save(self) -> None:
        """Write a checkpoint to resume from."""
        self.saved = time.monotonic()
        totals, update = self.processes.sum(self.stepper.totals.read()), self.stepper.update
        if self.run is not None and self.processes.is_first:
            tensors = pack(self._modules, update.optimizer)
            tensors |= {"totals": totals} | update.counts()
            self.kept.save(tensors, asdict(self.counters))

    def restore(self) -> None:
        """Continue from the last sound checkpoint, or from the start if none was written yet.

        Metrics after it are removed.

        Raises:
            InputError: all checkpoints are damaged or of another run, or a finished run has none.
        """
        assert self.run is not None
        assert isinstance(self.kept, Checkpoints)
        sound, first = self.kept.read(), self.processes.is_first
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
            self.kept.settle(sound[0])
        if first:
            metrics.cut_back(self.run.path / "metrics.jsonl", self.counters.metrics_bytes)
        self.processes.wait()
        self.history = History(self.run.metrics())
        if len(self.history):
            self.validation = self.history[-1]["validation"]
        if self.counters.validated_step >= 0:
            self._restore_best(self.run, self.kept)

    def _load(self, tensors: dict[str, Tensor], document: dict) -> None:
        """Take over a checkpoint; raises an error of several types if it does not match the run."""
        self.counters = TypeAdapter(Counters).validate_json(json.dumps(document), strict=True)
        if self.counters.index >= self.batches.steps_per_epoch:
            raise ValueError
        if self.counters.num_steps is not None:
            self._set_steps(self.counters.num_steps)
        totals, update = tensors.pop("totals"), self.stepper.update
        if self.processes.is_first:
            self.stepper.totals = Totals(totals.to(summing_device(self.device)))
        for name, own in update.counts().items():
            saved = tensors.pop(name, own)
            if (saved.dtype, saved.shape) != (own.dtype, own.shape):
                raise ValueError
            own.copy_(saved)
        unpack(tensors, self._modules, update.optimizer)

    def _restore_best(self, run: Run, kept: Checkpoints) -> None:
        """Replace damaged best weights by those of the finished model, or by the next best."""
        (best, *_), sound = run.weights("best"), kept.sound_best()
        self.processes.wait()
        if sound is None:
            warn(f"{best} is damaged; the best weights from here on take its place.")
            self.counters.best_bound, self.counters.validated_step = None, -1
        elif sound[0] != best and self.processes.is_first:
            save_tensors(best, *sound[1])
