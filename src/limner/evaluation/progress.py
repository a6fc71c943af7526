"""A progress bar for work on images. Silent where there is no terminal."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Report = Callable[[int, str], None]
"""Told the number of images done and the figures to show."""


@contextlib.contextmanager
def progress_bar(title: str, total: int) -> Iterator[Report]:
    """A bar over `total` images with figures and time left, removed at the end."""
    console = Console(stderr=True)
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(title, total=total, figures="")
        yield lambda done, figures: progress.update(task, completed=done, figures=figures)
