"""The memory and the time that a training needs, known before it starts."""

import math
import time
from typing import NamedTuple

import torch

from limner.config import RunConfig
from limner.data import Dataset
from limner.device import noise_source
from limner.errors import InputError
from limner.layers.copies import with_tensors
from limner.models import LatentVariableModel, RecurrentConfig, outline
from limner.models.memory import free_memory
from limner.objectives import objective

MAPPED = 2**30
"""Bytes of images that are in memory at most; more are in a mapped file."""
LONG = 3600.0
"""Seconds of training that are announced."""
FEW = 8
"""Images of the first trial; only if these may take long, a whole batch is tried."""


class Needs(NamedTuple):
    """Bytes on the device of a training, without those of Python and torch."""

    weights: int
    activations: int
    images: int

    @property
    def total(self) -> int:
        return sum(self)


def copies_of_weights(config: RunConfig, device: torch.device) -> int:
    """How many tensors of the size of the weights a training holds.

    The weights in training, the gradient and a copy that is made of it, two moments of Adam, the
    weights in validation, and the average. On a CPU the validated weights that wait to be saved
    (raw and averaged) are added. Saving needs no further copy. A recurrent model's gradients are
    summed over steps, for which it takes up to three more (measured).
    """
    averages, summed = int(config.ema_decay > 0), 3 * isinstance(config.model, RecurrentConfig)
    return 6 + averages + summed + (1 + averages if device.type == "cpu" else 0)


def needs(
    config: RunConfig,
    model: LatentVariableModel,
    dataset: Dataset,
    device: torch.device,
    batch: int,
) -> Needs:
    """What a training needs with `batch` images per step on this device."""
    weights = copies_of_weights(config, device) * _bytes_of(model)
    images = min(dataset.train.levels.nbytes, MAPPED)
    return Needs(weights, model.stored_bytes(batch), images)


def check_weights(config: RunConfig, dataset: Dataset, device: torch.device) -> None:
    """Raise `InputError` if the weights alone need more memory than is free, before it is used."""
    model = outline(config.model, dataset.image_shape)
    weights = copies_of_weights(config, device) * _bytes_of(model)
    _check(config, Needs(weights, 0, 0), weights, dataset, device)


def check_memory(
    config: RunConfig,
    model: LatentVariableModel,
    dataset: Dataset,
    device: torch.device,
    batch: int,
) -> None:
    """Raise `InputError` if a training needs more memory than is free; `model` has its weights."""
    needed = needs(config, model, dataset, device, batch)
    present = _bytes_of(model) if device.type == "cpu" else 0
    more = needed.weights - present + needed.activations
    _check(config, needed._replace(images=0), more, dataset, device)


def _check(
    config: RunConfig, needed: Needs, more: int, dataset: Dataset, device: torch.device
) -> None:
    free = free_memory(device)
    if more <= free:
        return
    height, width = dataset.image_shape[1:]
    size = f"--data.size {max(1, min(height, width) // 2)}"
    if needed.weights >= needed.activations:
        advice = f"choose smaller images ({size}) or smaller widths of the model"
        widths = [name for name in type(config.model).model_fields if name.startswith("hidden_")]
        advice += f" (--model.{widths[0].replace('_', '-')})" if widths else ""
    else:
        advice = f"lower --batch-size {config.batch_size}, choose smaller images ({size})"
        if isinstance(config.model, RecurrentConfig) and not config.objective.traced:
            advice += ", or pass --model.memory recompute"
    raise InputError(
        f"This training needs about {_gib(needed.total)} and {_gib(free)} are free: "
        f"{_gib(needed.weights)} for {copies_of_weights(config, device)} tensors of the size of "
        f"the weights, {_gib(needed.activations)} for activations; {advice}."
    )


def time_needed(
    config: RunConfig, model: LatentVariableModel, dataset: Dataset, batch: int, steps: int
) -> str | None:
    """The announcement of a training of `steps` steps with `batch` images, after trials of one."""
    few = min(batch, FEW)
    seconds = seconds_of_step(config, model, few)
    if seconds * batch / few * steps < LONG:
        return None
    if few < batch:
        seconds = seconds_of_step(config, model, batch)
    return announcement(seconds, steps, dataset)


def seconds_of_step(config: RunConfig, model: LatentVariableModel, batch: int) -> float:
    """Seconds of the gradient for `batch` images, in eager mode; the model stays as it is."""
    trial = with_tensors(model, {}, own_buffers=True).eval()
    trial.compiled = False
    parameters = [p for p in trial.parameters() if p.requires_grad]
    x = parameters[0].new_zeros(batch, *model.image_shape)
    aim, best = config.objective, math.inf
    for _ in range(2):
        noise = noise_source(x.device).manual_seed(0)
        started = time.perf_counter()
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            terms = objective(
                trial,
                x,
                generator=noise,
                kind=aim.kind,
                num_samples=aim.num_samples,
                gradient=aim.gradient,
            )
            torch.autograd.grad(terms.value.sum(), parameters, allow_unused=True)
        if x.device.type != "cpu":
            torch.get_device_module(x.device).synchronize()
        best = min(best, time.perf_counter() - started)
        if best > 1:  # long enough to be exact
            break
    return best


def announcement(seconds_per_step: float, steps: int, dataset: Dataset) -> str | None:
    """The sentence about a training of `steps` steps that takes longer than `LONG`."""
    seconds = seconds_per_step * steps
    if seconds < LONG:
        return None
    height, width = dataset.image_shape[1:]
    half = max(1, min(height, width) // 2)
    share = half**2 / math.prod(dataset.image_shape[1:])
    return (
        f"A step takes about {seconds_per_step:.2g} s, so {steps:,} steps take "
        f"about {seconds / 3600:.1f} hours; --data.size {half} would take about {share:.0%} of "
        "that, and --minutes or --epochs set another budget."
    )


def _bytes_of(model: LatentVariableModel) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
