"""What the runs of a study may use: how many at once, and how many threads or which GPU each."""

import os
from collections.abc import Sequence

import torch

from limner.device import pick_device
from limner.models import build
from limner.models.memory import free_memory
from limner.studies.engines import Engine, Processes, Ray, Share
from limner.studies.planning import Planned

OVERHEAD = 2**30
"""Bytes of a process besides its training: Python, torch, the images."""


def chosen_engine(
    name: str, address: str | None, plan: Sequence[Planned], jobs: int | None
) -> Engine:
    """The engine of that name; `jobs` runs at once, or as many as this machine has room for."""
    shares = shares_of(plan, jobs)
    if name == "processes":
        return Processes(shares)
    return Ray(address, shares[0], gpus=float(shares[0].gpu is not None))


def shares_of(plan: Sequence[Planned], jobs: int | None) -> list[Share]:
    """The shares of the runs that are under way at the same time."""
    cores, device = _cores(), pick_device(plan[0].config.device)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        jobs = min(jobs or count, len(plan))
        return [Share(max(1, cores // jobs), str(k % count)) for k in range(jobs)]
    if jobs is None:
        jobs = max(1, min(cores, free_memory(device) // (OVERHEAD + _largest(plan))))
    jobs = min(jobs, len(plan))
    return [Share(max(1, cores // jobs))] * jobs


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _largest(plan: Sequence[Planned]) -> int:
    """Bytes that the largest training keeps for the backward pass, if images are 28 x 28."""
    configs = {run.config.model.model_dump_json(): run.config for run in plan}.values()
    shape = (1, 28, 28)
    return max(build(config.model, shape).stored_bytes(config.batch_size) for config in configs)
