"""Progress bars on a terminal."""

import threading
import time
from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from limner.progress.messages import duration

console = Console(stderr=True)
INTERVAL = 0.5
"""Seconds between two updates of a training's figures."""


def on_terminal() -> bool:
    """Whether standard error is a terminal that can redraw a line."""
    redraws = console.is_interactive and not console.is_dumb_terminal
    return redraws and console.file.isatty()  # FORCE_COLOR makes rich call any file a terminal


def print_above(line: str) -> None:
    """Print a line above the bars. On a terminal lines end between words."""
    wraps = not on_terminal()
    console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=wraps)


class Bar:
    """A progress bar, removed at the end."""

    def __init__(self, title: str, figures: str, total: float | None = 1.0):
        """Without `total`, the bar moves to and fro."""
        self._progress, self._task = _bars.add(title, figures, total)
        self._shown = time.monotonic() - INTERVAL

    def due(self) -> bool:
        return time.monotonic() - self._shown >= INTERVAL

    def show(self, share: float, figures: str, seconds_left: float | None) -> None:
        self._shown = time.monotonic()
        self._progress.update(self._task, completed=share, figures=figures, left=seconds_left)

    def close(self, finished: bool) -> None:
        _bars.remove(self._task)


class _TimeLeft(ProgressColumn):
    """The time left, which the work computes."""

    def render(self, task: Task) -> Text:
        seconds = task.fields.get("left")
        return Text(f"{duration(seconds)} left" if seconds is not None else "")


class _Bars:
    """All bars of this process: work in several threads shares one area of the terminal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Progress | None = None

    def add(self, title: str, figures: str, total: float | None) -> tuple[Progress, TaskID]:
        with self._lock:
            if self._progress is None:
                columns = SpinnerColumn(), _title(), BarColumn(bar_width=20), _TimeLeft()
                self._progress = _TwoLines(*columns, console=console, transient=True)
                self._progress.start()
            task = self._progress.add_task(title, total=total, figures=figures, left=None)
            return self._progress, task

    def remove(self, task: TaskID) -> None:
        with self._lock:
            if self._progress is not None:
                self._progress.remove_task(task)
                if not self._progress.task_ids:
                    self._progress.stop()
                    self._progress = None


class _TwoLines(Progress):
    """For each task its bar, and below it the figures, cut off at the edge of the terminal."""

    def get_renderables(self) -> Iterator[RenderableType]:
        for task in self.tasks:
            yield self.make_tasks_table([task])
            if task.fields["figures"]:
                yield Text(f"  {task.fields['figures']}", no_wrap=True, overflow="ellipsis")


def _title() -> TextColumn:
    """The title, in which brackets have no meaning; a long one is cut off."""
    column = Column(no_wrap=True, overflow="ellipsis")
    return TextColumn("{task.description}", style="bold", markup=False, table_column=column)


_bars = _Bars()
