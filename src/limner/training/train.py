"""Train one run from its config, from the start or from where it stopped."""

import math
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator

from limner.config import RunConfig
from limner.data import load as load_dataset
from limner.data import pixel_kind
from limner.errors import InputError, Stopped, enough_memory
from limner.heap import kept_memory
from limner.training.display import console, say, training_display
from limner.training.interrupts import StopSignals
from limner.training.runs import Run
from limner.training.start import initial_model
from limner.training.trainer import Trainer

if dist.is_available():  # early: its default arguments are the group that there is at import
    import torch.distributed.nn.functional


def train(
    config: RunConfig,
    out: Path,
    resume: bool = False,
    overwrite: bool = False,
    title: str | None = None,
) -> Run:
    """Train the model of `config` in the run folder `out`; returns the finished run.

    Args:
        resume: continue the run in `out`, whose config must be `config`.
        overwrite: replace the run in `out`.
        title: what the progress bar calls the training.

    Raises:
        InputError: anything about config, data or folder that the user can mend. Nothing has been
            written then.
        Stopped: by Ctrl-C or SIGTERM, the state saved.
    """
    _require_trackers(config)
    accelerator = Accelerator(
        cpu=config.device == "cpu" or not torch.cuda.is_available(),
        log_with=list(config.trackers) or None,
        project_dir=out if config.trackers else None,
    )
    if config.device == "cuda" and accelerator.device.type != "cuda":
        raise InputError("There is no CUDA device here; pass --device cpu or auto.")
    memory = enough_memory(_savings(config))
    with _together(accelerator, out), memory, kept_memory(), denormals_as_zero():
        with accelerator.local_main_process_first():
            dataset = load_dataset(config.data)
        pixel_kind(dataset, config.model.observation)
        run = _opened(out, config) if resume else Run(out, config)
        start = config.start_from
        if not resume and start is not None and Path(start).resolve() == out.resolve():
            raise InputError(f"{out} cannot start from itself; choose another --out.")
        _check_shares(min(config.batch_size, len(dataset.train)), accelerator.num_processes)
        begun = resume and any(path.is_file() for path in run.training_states)
        model = initial_model(config, dataset, None if begun else start)
        held = run.lock() if resume else run.claim(overwrite)
        with held if accelerator.is_main_process else nullcontext():
            accelerator.wait_for_everyone()
            trainer = Trainer(run, dataset, accelerator, model)
            if resume:
                trainer.restore()
            _start_trackers(accelerator, config, run)
            mode = _mode(trainer)
            say(_summary(trainer, mode))
            if mode == "compiled":
                trainer.model.compile_parts()
            progress = training_display(title or config.model.kind)
            with progress as display, StopSignals() as signals:
                try:
                    trainer.fit(display, signals)
                except Stopped:  # all processes are, and a launcher's signal to end may follow
                    accelerator.end_training()
                    raise
        accelerator.wait_for_everyone()
        accelerator.end_training()
    return run


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """A context in which numbers below 1e-38 are zero, on a CPU.

    The optimizer's moments of a unit that says nothing any more become so small, and to compute
    with each takes a hundred times as long.
    """
    before = bool(torch.tensor(2e-38) * 0.1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def _together(accelerator: Accelerator, out: Path) -> Iterator[None]:
    """A context in which the loss of another process, met in a message, is told in a sentence.

    An error that the user can mend ends the group of processes.
    """
    try:
        yield
    except InputError:
        accelerator.end_training()
        raise
    except RuntimeError as error:
        if "gloo" not in str(error) and not isinstance(error, dist.DistError):
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's; this one ends by itself
        raise InputError(
            "Another process of this training ended, so this one does too; mend what it says, if "
            f"anything, then start all of them again with limner train --resume --out {out}."
        ) from None


def _opened(out: Path, config: RunConfig) -> Run:
    """The run in `out`, which is to go on with `config`."""
    run = Run.at(out)
    if run.config != config:
        raise InputError(f"{out} was started with another config; resume it with its own.")
    return run


def _savings(config: RunConfig) -> str:
    """What takes less memory than `config`."""
    if config.objective.traced or getattr(config.model, "memory", "recompute") == "recompute":
        return f"lower --batch-size {config.batch_size}"
    return f"lower --batch-size {config.batch_size}, or pass --model.memory recompute"


def has_compiler() -> bool:
    """Whether torch.compile finds a C++ compiler."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None or bool(shutil.which("clang++"))


def _check_shares(batch: int, processes: int) -> None:
    if batch % processes:
        raise InputError(
            f"A batch of {batch} images cannot be shared by {processes} processes; make "
            "--batch-size a multiple of their number."
        )


def _mode(trainer: Trainer) -> str:
    """Whether to compile: where that is wanted, can be, and has something to compile."""
    config = trainer.config
    steps = (config.epochs or math.inf) * trainer.batches.steps_per_epoch
    pays = steps > trainer.model.compiling_pays_after
    wanted = config.compile == "always" or (config.compile == "auto" and pays)
    if config.objective.traced or not wanted:
        return "eager"
    if trainer.device.type == "cpu" and not has_compiler():
        console.print("There is no C++ compiler for torch.compile: training runs eagerly, slower.")
        return "eager"
    return "compiled"


def _summary(trainer: Trainer, mode: str) -> str:
    model, config, batch = trainer.model, trainer.config, trainer.batches.batch_size
    copies = 4 + 2 * bool(config.ema_decay)
    num_bytes = 4 * copies * model.num_parameters + model.stored_bytes(batch)
    num_bytes += trainer.dataset.train.levels.numel() + 4 * trainer.validator.images.numel()
    kept = "store" if config.objective.traced else model.memory_mode(batch)
    memory = f" (activations: {kept})"
    return (
        f"{config.model.kind}: {model.num_parameters:,} parameters, {model.num_groups} latent "
        f"groups; {trainer.dataset.name}: {len(trainer.dataset.train):,} images of "
        f"{'x'.join(map(str, trainer.dataset.image_shape))}, {trainer.dataset.binarization} "
        f"binarization; about {num_bytes / 2**20:,.0f} MiB on {trainer.device}{memory}; {mode}."
    )


def _require_trackers(config: RunConfig) -> None:
    for tracker in config.trackers:
        if find_spec(tracker) is None:
            raise InputError(f"There is no {tracker} here; pip install 'limner[trackers]'.")


def _start_trackers(accelerator: Accelerator, config: RunConfig, run: Run) -> None:
    if config.trackers:
        accelerator.init_trackers(run.name)
