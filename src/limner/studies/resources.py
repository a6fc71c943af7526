"""What the runs of a study may use: how many at once, and how many threads or which GPU each."""

import json
import os
from collections.abc import Sequence
from functools import cache

import torch

from limner.data import DataConfig
from limner.device import pick_device
from limner.models import LatentVariableModel, build, config_from
from limner.models.memory import free_memory
from limner.studies.engines import Engine, Processes, Ray, Share
from limner.studies.planning import Planned

COLOURED = ("cifar10", "cifar100", "svhn")
"""Datasets of 32 x 32 colour images; the others are taken for 28 x 28 and grey."""
OVERHEAD = 2**30
"""Bytes of a process besides its training: Python, torch, the images."""


def chosen_engine(
    name: str, address: str | None, plan: Sequence[Planned], jobs: int | None
) -> Engine:
    """The engine of that name; `jobs` runs at once, or as many as this machine has room for."""
    shares = shares_of(plan, jobs)
    if name == "processes":
        return Processes(shares)
    gpus = float(shares[0].gpu is not None)
    return Ray(address, Share(shares[0].threads), gpus)  # Ray names the GPU of a run


def shares_of(plan: Sequence[Planned], jobs: int | None) -> list[Share]:
    """The shares of the runs that are under way at the same time."""
    cores, device = _cores(), pick_device(plan[0].config.device)
    if device.type == "cuda":
        gpus = _gpus() if device.index is None else [None]  # such as cuda:1, for every run
        jobs = min(jobs or len(gpus), len(plan))
        return [Share(max(1, cores // jobs), gpus[k % len(gpus)]) for k in range(jobs)]
    if jobs is None:
        jobs = max(1, min(cores, free_memory(device) // (OVERHEAD + _largest(plan))))
    jobs = min(jobs, len(plan))
    return [Share(max(1, cores // jobs))] * jobs


def _gpus() -> list[str | None]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return [*named[:count]] if len(named) >= count and named[0] else [*map(str, range(count))]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _largest(plan: Sequence[Planned]) -> int:
    """Bytes that the largest training keeps for the backward pass."""
    return max(_model(run).stored_bytes(run.config.batch_size) for run in plan)


def longest_first(plan: Sequence[Planned]) -> list[Planned]:
    """The runs in the order to train them, so that no long one is left for the end.

    What a model keeps for the backward pass stands for the time of its steps.
    """

    def length(run: Planned) -> float:
        model = _model(run)
        once, per_step = model.saved_floats
        floats = once + per_step * getattr(model, "num_steps", 0)
        return floats * (run.config.epochs or 1)

    return sorted(plan, key=length, reverse=True)


def _model(run: Planned) -> LatentVariableModel:
    return _built(run.config.model.model_dump_json(), image_shape(run.config.data))


@cache
def _built(config: str, shape: tuple[int, int, int]) -> LatentVariableModel:
    return build(config_from(json.loads(config)), shape)


def image_shape(data: DataConfig) -> tuple[int, int, int]:
    """Channels, height and width as far as the settings say; images are not read for it."""
    coloured = data.name in COLOURED
    height, width = data.height_width or ((32, 32) if coloured else (28, 28))
    return 3 if data.colour == "rgb" or (coloured and data.colour == "auto") else 1, height, width
