"""Weights and state of a training in the files of its run folder."""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limner.errors import InputError, Stopped
from limner.progress import warn
from limner.storage import first_sound, load_tensors, save_tensors
from limner.training import metrics
from limner.training.averaging import has_batch_norm
from limner.training.runs import Checkpoint, Run, WeightKind
from limner.training.trackers import Log
from limner.training.validation import Validator


class Checkpoints:
    """The files that a training resumes from, written by the first process.

    The weights of the last validation are kept until the next save, in one copy. If they are the
    best so far and those of the next validation are not, they are written then.

    Args:
        about: goes into every document.
        log: called with the figures of each validation, and the step.
    """

    def __init__(
        self, run: Run, validator: Validator, about: Mapping[str, Any], log: Log | None = None
    ):
        self.run, self.validator, self.about, self.log = run, validator, about, log
        self._kept: dict[WeightKind, dict[str, Tensor]] = {}
        self._used: WeightKind = "raw"
        self._waiting: list[Checkpoint] = []

    def keep(
        self,
        models: Mapping[WeightKind, nn.Module],
        used: WeightKind,
        epoch: int,
        best: bool,
        document: Mapping[str, Any],
    ) -> None:
        """Keep weights that were just validated, with the statistics that the validator computed.

        Args:
            models: the raw and the averaged weights.
            used: the kind that was validated. Batch-norm statistics of the other kind are computed
                when it is written.
            epoch: the epoch whose pixels the statistics use.
            best: whether they are the best so far.
            document: the JSON document of their files.
        """
        validated = self.validator.model.state_dict()
        if not best and "best" in self._waiting:
            validated = {name: value.clone() for name, value in validated.items()}
            self._write("best")
        for kind, model in models.items():
            kept = self._kept.setdefault(kind, {})
            for name, value in (validated if kind == used else model.state_dict()).items():
                if name in kept:
                    kept[name].copy_(value)
                else:
                    kept[name] = value.to("cpu", copy=True)
        self._used, self._epoch, self._document = used, epoch, {**self.about, **document}
        self._waiting = ["best", "last"] if best else ["last"]

    def save(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Write best and last weights, then the state. The previous state is kept beside it."""
        self._write(*self._waiting)
        self._waiting = []
        state, previous = self.run.training_states
        save_tensors(state, tensors, {**counters, "config": self.about["config"]}, previous)

    def record(self, entry: Mapping[str, Any]) -> int:
        """Add a line to the metrics; returns the bytes of the file."""
        if self.log is not None:
            figures = {
                f"{part}/{name}": value
                for part in ("train", "validation")
                for name, value in entry[part].items()
                if isinstance(value, float)
            }
            self.log(figures, entry["step"])
        return metrics.append(self.run.path / "metrics.jsonl", entry)

    def export(self) -> None:
        """Write the best weights to model.safetensors."""
        self.run.export()

    def best(self) -> dict[str, Tensor]:
        """The best weights; empty before the first validation."""
        if "best" in self._waiting:
            return dict(self._kept[self._used])
        kind = "raw" if not self.about["config"]["ema_decay"] else "ema"
        sound = self.sound_best()
        tensors = {} if sound is None else sound[1][0]
        return {
            name.removeprefix(f"{kind}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{kind}.")
        }

    def stopped(self, signum: int) -> Stopped:
        """The error that ends the training after a signal."""
        return Stopped(
            f"Stopped by {signal.Signals(signum).name}; continue with "
            f"limner train --resume --out {self.run.path}",
            signum,
        )

    def _write(self, *names: Checkpoint) -> None:
        """Write the weights in memory to the files of these names."""
        states = dict(self._kept) if names else {}
        for kind, state in states.items():
            if kind != self._used and has_batch_norm(self.validator.model):
                states[kind] = self.validator.with_statistics(state, self._epoch)
        for name in names:
            self.run.save_weights(name, states, self._document)

    def read(self) -> tuple[Path, tuple[dict[str, Tensor], dict[str, Any]]] | None:
        """The last sound state, and its file; None if none was written yet.

        Raises:
            InputError: all states are damaged, or a finished run has none.
        """
        sound = first_sound(self.run.training_states, load_tensors, warn)
        if sound is None and self.run.exported.is_file():
            raise InputError(
                f"{self.run.path} is finished and keeps no checkpoint to resume from; choose "
                "another --out, or replace it with --overwrite."
            )
        return sound

    def settle(self, path: Path) -> None:
        """Make the state in `path` the newest one."""
        os.replace(path, self.run.training_states[0])

    def sound_best(self) -> tuple[Path, tuple[dict[str, Tensor], dict[str, Any]]] | None:
        """The best weights, from the finished model if their checkpoint is damaged; None if both
        are."""
        try:
            return first_sound(self.run.weights("best"), load_tensors, warn)
        except InputError:
            return None


def pack(modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Named tensors of all modules and of the optimizer."""
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    for index, parameter in _parameters(optimizer):
        state = optimizer.state[parameter]
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    return tensors


def unpack(
    tensors: dict[str, Tensor], modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    """Put the tensors of `pack` back where they came from.

    Raises:
        RuntimeError: they are not those of the modules.
        ValueError: they are not those of the optimizer.
    """
    for prefix, module in modules.items():
        module.load_state_dict(
            {
                name.removeprefix(f"{prefix}."): tensor
                for name, tensor in tensors.items()
                if name.startswith(f"{prefix}.")
            }
        )
    for index, parameter in _parameters(optimizer):
        prefix = f"optimizer.{index}."
        state = {
            name.removeprefix(prefix): tensor.to(parameter.device)
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        moments = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        if state and {key: value.shape for key, value in state.items()} != moments:
            raise ValueError(f"no state of Adam for parameter {index}")
        optimizer.state[parameter] = state


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, Tensor]]:
    return enumerate(p for group in optimizer.param_groups for p in group["params"])
