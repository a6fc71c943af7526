"""Train one run from its config, from the start or from where it stopped."""

import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator

from limner.config import RunConfig
from limner.data import load as load_dataset
from limner.data import pixel_kind
from limner.errors import InputError
from limner.models import LatentVariableModel, build
from limner.training.display import console, say, training_display
from limner.training.interrupts import StopSignals
from limner.training.runs import Run
from limner.training.trainer import Trainer


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
    accelerator = Accelerator(
        cpu=config.device == "cpu",
        log_with=list(config.trackers) or None,
        project_dir=out if config.trackers else None,
    )
    if config.device == "cuda" and accelerator.device.type != "cuda":
        raise InputError("There is no CUDA device here; pass --device cpu or auto.")
    dataset = load_dataset(config.data)
    pixel_kind(dataset, config.model.observation)
    build(config.model, dataset.image_shape)
    run = _folder(config, out, resume, overwrite, accelerator)
    with run.lock() if accelerator.is_main_process else nullcontext():
        trainer = Trainer(run, dataset, accelerator)
        if resume:
            trainer.restore()
        _start_trackers(accelerator, config, run)
        say(_summary(trainer, _compile(trainer.model, config, accelerator.device)))
        with training_display(title or config.model.kind) as display, StopSignals() as signals:
            trainer.fit(display, signals)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return run


def _folder(
    config: RunConfig, out: Path, resume: bool, overwrite: bool, accelerator: Accelerator
) -> Run:
    """The run's folder: opened to resume, else made by the main process for all."""
    if resume:
        run = Run.open(out)
        if run.config != config:
            raise InputError(f"{out} was started with another config; resume it with its own.")
        return run
    if accelerator.is_main_process:
        Run.create(out, config, overwrite)
    accelerator.wait_for_everyone()
    return Run(out, config)


def has_compiler() -> bool:
    """Whether torch.compile finds a C++ compiler."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None or bool(shutil.which("clang++"))


def _compile(model: LatentVariableModel, config: RunConfig, device: torch.device) -> str:
    """Compile where that is wanted and can be; says which mode it is."""
    if config.compile == "never" or (config.compile == "auto" and not model.compiling_pays):
        return "eager"
    if device.type == "cpu" and not has_compiler():
        console.print("There is no C++ compiler for torch.compile: training runs eagerly, slower.")
        return "eager"
    model.compile_parts()
    return "compiled"


def _summary(trainer: Trainer, mode: str) -> str:
    model, config, batch = trainer.model, trainer.config, trainer.batches.batch_size
    copies = 4 + 2 * bool(config.ema_decay)
    num_bytes = 4 * copies * model.num_parameters + model.stored_bytes(batch)
    num_bytes += trainer.dataset.train.levels.numel() + 4 * trainer.validation.numel()
    memory = f" (activations: {model.memory_mode(batch)})"
    return (
        f"{config.model.kind}: {model.num_parameters:,} parameters, {model.num_groups} latent "
        f"groups; {trainer.dataset.name}: {len(trainer.dataset.train):,} images of "
        f"{'x'.join(map(str, trainer.dataset.image_shape))}, {trainer.dataset.binarization} "
        f"binarization; about {num_bytes / 2**20:,.0f} MiB on {trainer.device}{memory}; {mode}."
    )


def _start_trackers(accelerator: Accelerator, config: RunConfig, run: Run) -> None:
    if config.trackers:
        accelerator.init_trackers(run.name)
