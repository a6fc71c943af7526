"""Whether to compile, whether to use CUDA graphs, and how to recognise that compiling failed."""

import math
import os
import shutil
from collections.abc import Iterator
from subprocess import SubprocessError

import torch
from torch import nn

from limner.config import RunConfig
from limner.device import is_tried
from limner.models import LatentVariableModel
from limner.progress import warn

COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch", "triton")
"""Modules that define errors of torch.compile."""


PAYS_LATER = 6
"""How many times as many steps make up for the compiler if steps are CUDA graphs, which already
save the cost of launching kernels (results/gpu-h100.json)."""


def wants_graphs(
    config: RunConfig, model: LatentVariableModel, device: torch.device, processes: int = 1
) -> bool:
    """Whether steps are CUDA graphs: the config asks for it, or leaves the choice and they can be.

    A dropout's random state is not part of a graph, and several GPUs were not tried.
    """
    if config.compile != "auto":
        return config.compile == "cuda-graph"
    return device.type == "cuda" and processes == 1 and not drops_out(model)


def wants_compiling(
    config: RunConfig,
    model: LatentVariableModel,
    steps_per_epoch: int,
    device: torch.device,
    graphs: bool = False,
) -> bool:
    """Whether to compile: the config asks for it or it pays, and device and compiler can.

    Args:
        graphs: whether steps are CUDA graphs.
    """
    steps = (config.epochs or math.inf) * steps_per_epoch
    worth = model.compiling_pays_after * (PAYS_LATER if graphs else 1)
    pays = config.compile == "auto" and steps > worth
    if config.objective.traced or not (pays or config.compile in ("always", "cuda-graph")):
        return False
    if not is_tried(device):
        warn(f"torch.compile is used on a CPU and on CUDA: training on {device} runs eagerly.")
        return False
    if device.type == "cpu" and not has_compiler():
        warn("There is no C++ compiler for torch.compile: training runs eagerly, slower.")
        return False
    return True


def drops_out(model: nn.Module) -> bool:
    """Whether the model has dropout."""
    return any(isinstance(m, nn.modules.dropout._DropoutNd) for m in model.modules())


def has_compiler() -> bool:
    """Whether torch.compile finds a C++ compiler."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None or bool(shutil.which("clang++"))


def is_compile_error(error: BaseException) -> bool:
    """Whether an error in a compiled training step may come from torch.compile.

    Its type, or that of an error that caused it, is defined there; or a file, a program or a
    library was missing that only compiling uses. If the error had another cause, the step raises it
    again when it is repeated in eager mode.
    """
    return any(
        isinstance(one, (OSError, ImportError, SubprocessError))
        or f"{type(one).__module__}.".startswith(tuple(f"{name}." for name in COMPILERS))
        for one in _causes(error)
    )


def reason(error: BaseException) -> str:
    """Why compiling failed, in a few words."""
    if any("Python.h" in str(one) for one in _causes(error)):
        return "Python.h is missing; install Python's headers, for example python3-dev"
    return type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
