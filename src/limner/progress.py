"""Progress bars and messages on standard error.

Bars appear only on a terminal. With several processes only the first prints.
"""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from limner.errors import printable

console = Console(stderr=True, quiet=int(os.environ.get("RANK", "0")) > 0)
Report = Callable[[int, str], None]
"""A callback: number of images done, text with the current figures."""


@functools.cache
def warn(sentence: str) -> None:
    """Print a sentence, once per process, also if the output is not a terminal."""
    console.print(printable(sentence), highlight=False, markup=False, soft_wrap=True)


def say(sentence: str) -> None:
    """Print a sentence if the output is a terminal."""
    if console.is_terminal:
        console.print(sentence, highlight=False)


@contextlib.contextmanager
def progress_bar(title: str, total: int) -> Iterator[Report]:
    """A progress bar over `total` images with figures and the time left, removed at the end."""
    columns = (BarColumn(), MofNCompleteColumn(), _FIGURES, TimeRemainingColumn())
    with _bar(_TITLE, *columns) as progress:
        task = progress.add_task(title, total=total, figures="")
        yield lambda done, figures: progress.update(task, completed=done, figures=figures)


@contextlib.contextmanager
def training_display(title: str) -> "Iterator[TrainingDisplay]":
    """The progress bar of a training, removed at the end."""
    with _bar(SpinnerColumn(), _TITLE, BarColumn(), _FIGURES, _TimeLeft()) as progress:
        yield TrainingDisplay(title, progress)


class TrainingDisplay:
    """The progress bar of one training."""

    def __init__(self, title: str, progress: Progress):
        self._progress = progress
        self._task = progress.add_task(title, total=1.0, figures="starting", left=None)
        self._shown = 0.0

    def due(self) -> bool:
        """Whether to show new figures: every half second on a terminal."""
        return not self._progress.disable and time.monotonic() - self._shown > 0.5

    def update(self, share: float, figures: str, seconds_left: float | None) -> None:
        """Show the share of the budget that is spent, figures and the time left."""
        self._shown = time.monotonic()
        self._progress.update(self._task, completed=share, figures=figures, left=seconds_left)


_TITLE = TextColumn("[bold]{task.description}")
_FIGURES = TextColumn("{task.fields[figures]}")


class _TimeLeft(ProgressColumn):
    """The time left, which the training loop computes from its budget."""

    def render(self, task: Task) -> Text:
        seconds = task.fields.get("left")
        return Text(f"{_duration(seconds)} left" if seconds is not None else "")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _bar(*columns: ProgressColumn) -> Progress:
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
