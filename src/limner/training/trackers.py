"""Figures of a training for TensorBoard and Weights & Biases."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from limner.errors import InputError

Log = Callable[[Mapping[str, float], int], None]
"""Takes figures by name, and the step."""


def require(names: Sequence[str]) -> None:
    """Raise InputError if a tracker is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise InputError(f"There is no {name} here; pip install 'limner[trackers]'.")


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
            logs.append(lambda figures, step: _add(writer, figures, step))
        if "wandb" in names:
            import wandb

            run = stack.enter_context(wandb.init(project=name))
            logs.append(lambda figures, step: run.log(dict(figures), step=step))
        yield lambda figures, step: [log(figures, step) for log in logs] and None


def _add(writer, figures: Mapping[str, float], step: int) -> None:
    for name, value in figures.items():
        writer.add_scalar(name, value, step)
    writer.flush()
