"""What a training shows: a summary before it starts, a progress bar, a line at its end."""

import contextlib
import functools
import os
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
)
from rich.text import Text

console = Console(stderr=True, quiet=int(os.environ.get("RANK", "0")) > 0)
"""Of several processes, only the first one shows anything."""


class _TimeLeft(ProgressColumn):
    """Time left as the training itself reckons it, by its budget."""

    def render(self, task: Task) -> Text:
        seconds = task.fields.get("left")
        return Text(f"{_duration(seconds)} left" if seconds is not None else "")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class TrainingDisplay:
    """A progress bar over one training. Silent where there is no terminal."""

    def __init__(self, title: str, progress: Progress):
        self._progress = progress
        self._task = progress.add_task(title, total=1.0, figures="starting", left=None)
        self._shown = 0.0

    def due(self) -> bool:
        """Whether it is time to show new figures: on a terminal, every half second."""
        return not self._progress.disable and time.monotonic() - self._shown > 0.5

    def update(self, share: float, figures: str, seconds_left: float | None) -> None:
        """Show the share of the budget spent, the figures that matter and the time left."""
        self._shown = time.monotonic()
        self._progress.update(self._task, completed=share, figures=figures, left=seconds_left)


@contextlib.contextmanager
def training_display(title: str) -> Iterator[TrainingDisplay]:
    """A display that is removed when the training ends."""
    columns = (
        SpinnerColumn(),
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        _TimeLeft(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield TrainingDisplay(title, progress)


@functools.cache
def warn(sentence: str) -> None:
    """A line that must not be missed, terminal or not; once, however often it is found."""
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def say(sentence: str) -> None:
    """A line for whoever watches; nothing where there is no terminal."""
    if console.is_terminal:
        console.print(sentence, highlight=False)
