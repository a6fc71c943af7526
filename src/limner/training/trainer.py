"""The training loop, one for all models.

Everything random is a function of (seed, step): the order of the images, their pixels (see
`limner.data`) and the noise of the latents. A run that was stopped therefore resumes to the bit
from weights, optimizer and counters alone.
"""

import json
import os
import signal
import time
from contextlib import nullcontext
from dataclasses import asdict
from typing import cast

import torch
import torch.distributed as dist
from accelerate import Accelerator
from pydantic import TypeAdapter
from torch import Tensor

from limner.data import Dataset, TrainingBatches
from limner.data.pixels import mixed_seed
from limner.errors import InputError, Stopped
from limner.layers.batch import shared_batch
from limner.models import LatentVariableModel
from limner.objectives import objective
from limner.settings import read_bytes
from limner.training.averaging import averaged
from limner.training.averaging import due as average_due
from limner.training.checkpoint import pack, unpack
from limner.training.display import TrainingDisplay, warn
from limner.training.interrupts import StopSignals
from limner.training.made import maker
from limner.training.optimizer import (
    MAX_STREAK,
    GuardedStep,
    build_optimizer,
    kl_weight,
    learning_rate,
)
from limner.training.runs import MAX_METRICS, Run, WeightKind
from limner.training.state import Counters, Snapshot, Totals, copy_of, figures_of
from limner.training.storage import (
    first_sound,
    load_tensors,
    save_tensors,
    unwritable,
    write_atomically,
)
from limner.training.validation import Validator

READ_EVERY = 20
"""Steps between two looks at what stays on the device, and agreements of several processes."""


class Trainer:
    """Trains a model as a run's config says, from where it is or from the run's checkpoint."""

    def __init__(
        self, run: Run, dataset: Dataset, accelerator: Accelerator, model: LatentVariableModel
    ):
        config = self.config = run.config
        self.run, self.dataset, self.accelerator = run, dataset, accelerator
        self.device, self.processes = accelerator.device, accelerator.num_processes
        self.batches = TrainingBatches(
            dataset, config.model.observation, config.batch_size, config.seed, self.device
        )
        self.model = model.to(self.device).train()
        self.average = averaged(self.model, config.ema_decay) if config.ema_decay else None
        self.step = GuardedStep(
            build_optimizer(self.model, config.optimizer), config.optimizer.clip_norm, self.device
        )
        self.noise = torch.Generator(self.device)
        self.validator = Validator(config, dataset, self.batches, self.device)
        self.totals = self._no_totals()
        self.counters = Counters()
        self.snapshots: dict[str, Snapshot] = {}

    # The loop

    def fit(self, display: TrainingDisplay, signals: StopSignals) -> None:
        """Train until the budget is spent.

        Raises:
            Stopped: a signal asked to leave; the state is saved.
            InputError: gradients stayed non-finite.
        """
        if self.accelerator.is_main_process and self._share() < 1:
            self.run.sign(maker(self.device, self.processes))
        self.begin()
        while self._share() < 1:
            self.advance(display, signals)
        self._refuse_if_stuck()
        if self.counters.validated_step != self.counters.step:
            self._validate()
        self._save()
        if self.accelerator.is_main_process:
            self.run.export()
        self._leave_if_asked(*self._agreed(signals.received))

    def begin(self) -> None:
        """Start the clock."""
        self.started, self.saved = time.monotonic() - self.counters.seconds, time.monotonic()
        self.first_step, self.first_seconds = self.counters.step, self.counters.seconds

    def advance(self, display: TrainingDisplay, signals: StopSignals) -> None:
        """One step, and what falls due after it: validation, figures, checkpoint, stopping."""
        x = self.batches.batch(self.counters.epoch, self.counters.index)
        self._train_step(x[self.accelerator.process_index :: self.processes])
        self._count()
        if self.counters.index == 0 and self.counters.epoch % self.config.validate_every == 0:
            self._validate()
        if self.processes == 1 or self.counters.step % READ_EVERY == 0:
            self._attend(display, signals)

    def _train_step(self, x: Tensor) -> None:
        config, counters = self.config.objective, self.counters
        rank = self.accelerator.process_index
        self.noise.manual_seed(mixed_seed("latent", self.config.seed, counters.step, rank))
        mixed = self.config.precision == "bfloat16"
        precision = torch.autocast(self.device.type, torch.bfloat16) if mixed else nullcontext()
        with precision, shared_batch():
            terms = objective(
                self.model,
                x,
                generator=self.noise,
                kind=config.kind,
                num_samples=config.num_samples,
                gradient=config.gradient,
                beta=kl_weight(self.config, counters.step / self.batches.steps_per_epoch),
                free_bits=config.free_bits,
            )
        (-terms.value.mean()).backward()
        self._share_gradients()
        self.step(learning_rate(self.config.optimizer, counters.step, self._share()))
        self.step.optimizer.zero_grad()
        if self.average is not None and average_due(counters.step + 1):
            self.average.update_parameters(self.model)
        self.totals.add(terms.log_likelihood, terms.kl)

    def _share_gradients(self) -> None:
        """The mean of the gradient over all processes, in one message."""
        if self.processes == 1:
            return
        gradients = [p.grad for p in self.step.parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        flat = self._reduced(flat, "mean")
        for gradient, mean in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(mean.view_as(gradient))

    def _reduced(self, tensor: Tensor, how: str) -> Tensor:
        return cast(Tensor, self.accelerator.reduce(tensor, how))

    def _agreed(self, *values: float) -> list[float]:
        """The largest of each value over all processes."""
        tensor = torch.tensor(values, device=self.device, dtype=torch.float64)
        if self.processes > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.tolist()

    def _count(self) -> None:
        counters = self.counters
        counters.step += 1
        counters.index += 1
        if counters.index == self.batches.steps_per_epoch:
            counters.epoch, counters.index = counters.epoch + 1, 0
        if self.processes == 1:
            counters.seconds = time.monotonic() - self.started

    def _share(self) -> float:
        """The share of the budget that is spent."""
        shares = []
        if self.config.epochs is not None:
            shares.append(self.counters.step / (self.config.epochs * self.batches.steps_per_epoch))
        if self.config.minutes is not None:
            shares.append(self.counters.seconds / (60 * self.config.minutes))
        return max(shares)

    def _attend(self, display: TrainingDisplay, signals: StopSignals) -> None:
        """Between steps: agree on the time, show figures, save in time, stop when asked."""
        now = time.monotonic()
        due = now - self.saved > 60 * self.config.checkpoint_minutes
        stop = signals.received
        if self.processes > 1:
            self.counters.seconds, due, stop = self._agreed(now - self.started, due, int(stop))
        if display.due():
            self._show(display)
        if self.counters.step % READ_EVERY == 0 or self.counters.index == 0:
            self._refuse_if_stuck()
        if due or stop:
            self._save()
        self._leave_if_asked(stop)

    def _refuse_if_stuck(self) -> None:
        if self.step.stuck():
            raise InputError(
                f"The gradient was not finite for {MAX_STREAK} steps in a row at epoch "
                f"{self._epochs():.2f}; train anew with a lower --optimizer.learning-rate."
            )

    def _leave_if_asked(self, stop: float) -> None:
        """Raise Stopped where a signal was received; the state is saved by then."""
        if stop:
            raise Stopped(
                f"Stopped by {signal.Signals(int(stop)).name}; continue with "
                f"limner train --resume --out {self.run.path}",
                int(stop),
            )

    def _show(self, display: TrainingDisplay) -> None:
        figures, share, counters = figures_of(self.totals.read()), self._share(), self.counters
        bound = "" if figures["elbo"] is None else f"bound {figures['elbo']:.2f}"
        if counters.best_bound is not None:
            bound += f", best validation {counters.best_bound:.2f}"
        left = counters.seconds / share * (1 - share) if share else None
        rate = f"{self._images_per_second():,.0f} images/s"
        display.update(share, f"epoch {self._epochs():.1f}  {bound}  {rate}", left)

    def _epochs(self) -> float:
        return self.counters.epoch + self.counters.index / self.batches.steps_per_epoch

    def _images_per_second(self) -> float:
        steps = self.counters.step - self.first_step
        seconds = max(self.counters.seconds - self.first_seconds, 1e-9)
        return steps * self.batches.batch_size / seconds

    # Validation

    def _validate(self) -> None:
        """Validate the weights that will be used, log, keep them if they are the best."""
        if self.processes > 1:
            self.counters.seconds = self._agreed(time.monotonic() - self.started)[0]
        epoch, best = max(0, self.counters.epoch - 1), self.counters.best_bound
        states: dict[WeightKind, dict[str, Tensor]] = {"raw": copy_of(self.model)}
        if self.average is not None:
            states["ema"] = copy_of(self.average.module)
        used: WeightKind = "raw" if self.average is None else "ema"
        states[used], figures = self.validator(states[used], epoch)
        about = {"epoch": self._epochs(), "validation_elbo": figures["elbo"]}
        snapshot = self.snapshots["last"] = Snapshot(states, used, epoch, about)
        bound = figures[self.validator.trained_bound]
        if best is None or (bound is not None and bound > best):
            self.counters.best_bound = bound
            self.snapshots["best"] = snapshot
        self.counters.validated_step = self.counters.step
        self._log(figures)
        self.totals = self._no_totals()

    def _no_totals(self) -> Totals:
        sums = torch.zeros(2 + self.model.num_groups, dtype=torch.float64, device=self.device)
        return Totals(sums)

    def _log(self, validation: dict) -> None:
        """Append the figures of training since the last entry, and of validation."""
        totals = self._reduced(self.totals.read(), "sum")
        if not self.accelerator.is_main_process:
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
        try:
            with open(self.run.path / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
                counters.metrics_bytes = file.tell()
        except OSError as error:
            raise unwritable(self.run.path / "metrics.jsonl", error) from None
        self.accelerator.log(
            {
                f"{part}/{name}": value
                for part in ("train", "validation")
                for name, value in entry[part].items()
                if isinstance(value, float)
            },
            step=counters.step,
        )

    # State

    @property
    def _modules(self) -> dict[str, torch.nn.Module]:
        modules: dict[str, torch.nn.Module] = {"model": self.model}
        return modules if self.average is None else modules | {"average": self.average}

    def _save(self) -> None:
        """Best and last weights, then the state to resume from; the state before is kept beside."""
        self.saved = time.monotonic()
        totals = self._reduced(self.totals.read(), "sum")
        if not self.accelerator.is_main_process:
            return
        document = {
            "image_shape": self.dataset.image_shape,
            "config": self.config.model_dump(mode="json"),
        }
        for name, snapshot in self.snapshots.items():
            states: dict[WeightKind, dict[str, Tensor]] = {
                kind: state
                if kind == snapshot.whole
                else self.validator.with_statistics(state, snapshot.epoch)
                for kind, state in snapshot.states.items()
            }
            self.run.save_weights(name, states, document | snapshot.about)
        self.snapshots.clear()
        tensors = pack(self._modules, self.step.optimizer)
        tensors |= {"totals": totals, "skipped": self.step.skipped, "streak": self.step.streak}
        state, previous = self.run.training_states
        counters = asdict(self.counters) | {"config": document["config"]}
        save_tensors(state, tensors, counters, previous)

    def restore(self) -> None:
        """Stand where the last sound checkpoint stood, or at the start where none was written yet.

        Metrics are cut back to it.

        Raises:
            InputError: all checkpoints are damaged, or a finished run has none.
        """
        sound = first_sound(self.run.training_states, load_tensors, warn)
        if sound is None and self.run.exported.is_file():
            raise InputError(
                f"{self.run.path} is finished and keeps no checkpoint to resume from; choose "
                "another --out, or replace it with --overwrite."
            )
        try:
            if sound is not None:
                self._stand(*sound[1])
        except (KeyError, TypeError, ValueError, RuntimeError):
            raise InputError(
                f"The training state in {self.run.path} does not fit its config.json; restore the "
                "folder, or train anew with --overwrite."
            ) from None
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            if sound is not None:
                os.replace(sound[0], self.run.training_states[0])
            self._cut_metrics()
        if self.counters.validated_step >= 0:
            self._restore_best()

    def _cut_metrics(self) -> None:
        path, size = self.run.path / "metrics.jsonl", self.counters.metrics_bytes
        kept = read_bytes(path, MAX_METRICS)[:size] if path.is_file() else b""
        if len(kept) < size:
            warn(f"{path} has lost its last lines; training goes on without them.")
        write_atomically(path, kept[: kept.rfind(b"\n") + 1])

    def _restore_best(self) -> None:
        """Take the best weights from the finished model where their checkpoint is damaged.

        Where that is no help, the best from here on take their place.
        """
        best, *_ = self.run.weights("best")
        try:
            sound = first_sound(self.run.weights("best"), load_tensors, warn)
        except InputError:
            sound = None
        self.accelerator.wait_for_everyone()
        if sound is None:
            warn(f"{best} is damaged; the best weights from here on take its place.")
            self.counters.best_bound, self.counters.validated_step = None, -1
        elif sound[0] != best and self.accelerator.is_main_process:
            save_tensors(best, *sound[1])

    def _stand(self, tensors: dict[str, Tensor], document: dict) -> None:
        """Where tensors and document say; raises what they provoke if they are of another run."""
        self.counters = TypeAdapter(Counters).validate_json(json.dumps(document), strict=True)
        if self.counters.index >= self.batches.steps_per_epoch:
            raise ValueError
        totals = tensors.pop("totals").to(self.device)
        if self.accelerator.is_main_process:
            self.totals = Totals(totals)
        self.step.skipped = tensors.pop("skipped").to(self.device)
        self.step.streak = tensors.pop("streak").to(self.device)
        unpack(tensors, self._modules, self.step.optimizer)
