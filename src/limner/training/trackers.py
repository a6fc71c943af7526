"""Figures of a training for TensorBoard and Weights & Biases."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from limner.errors import InputError
from limner.extras import install

Log = Callable[[Mapping[str, float], int], object]
"""Takes figures by name, and the step."""


def require(names: Sequence[str]) -> None:
    """Raise InputError if a tracker is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise InputError(f"{name} is not installed; install it with {install('trackers')}.")


@contextmanager
def trackers(names: Sequence[str], folder: Path) -> Iterator[Log]:
    """A function that logs figures with every named tracker.

    TensorBoard's files go to `folder`/NAME and the project of Weights & Biases is NAME, the name of
    the run folder.
    """
    name = folder.resolve().name
    with ExitStack() as stack:
        logs: list[Log] = []
        if "tensorboard" in names:
            from torch.utils.tensorboard import SummaryWriter

            writer = stack.enter_context(SummaryWriter(str(folder / name)))
            logs.append(partial(_add, writer))
        if "wandb" in names:
            import wandb

            run = stack.enter_context(wandb.init(project=name))
            logs.append(lambda figures, step: run.log(dict(figures), step=step))

        def log(figures: Mapping[str, float], step: int) -> None:
            for each in logs:
                each(figures, step)

        yield log


def _add(writer: Any, figures: Mapping[str, float], step: int) -> None:
    for name, value in figures.items():
        writer.add_scalar(name, value, step)
