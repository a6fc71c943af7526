"""The display of one piece of work, whose views depend on where it runs."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from limner.notebook import in_notebook
from limner.progress.lines import Lines, Notice
from limner.progress.messages import LOGGER, PROGRESS, is_first_process
from limner.progress.notebook import Notebook

Report = Callable[[int, str], None]
"""A callback: number of images done, text with the current figures."""


class View(Protocol):
    """One way to show progress."""

    def due(self) -> bool:
        """Whether new figures would be shown."""
        ...

    def show(self, share: float, figures: str, seconds_left: float | None) -> None:
        """Show new figures, if they are due."""
        ...

    def close(self, finished: bool) -> None:
        """End the view; `finished` is false after an error."""
        ...


class Display:
    """Shows the progress of a training, or of other work."""

    def __init__(self, views: list[View]):
        self._views = views

    def due(self) -> bool:
        """Whether to update: twice a second for people, about once a minute for a log."""
        return any(view.due() for view in self._views)

    def update(self, share: float, figures: str, seconds_left: float | None) -> None:
        """Show the share of the work that is done, figures and the time left."""
        for view in self._views:
            view.show(share, figures, seconds_left)


TrainingDisplay = Display


@contextmanager
def training_display(title: str, figures: str = "starting") -> Iterator[Display]:
    """The display of a training, which begins with `figures`."""
    with _displayed(title, figures) as display:
        yield display


@contextmanager
def progress_bar(title: str, total: int, unit: str = "images", about: str = "") -> Iterator[Report]:
    """The display of work on `total` units; the time left follows from the units done.

    A log begins with a line "TITLE: TOTAL UNIT ABOUT", such as "to FOLDER".
    """
    first: tuple[float, int] | None = None

    def report(done: int, figures: str) -> None:
        nonlocal first
        now = time.monotonic()
        started, before = first = first or (now, done)  # work that is resumed begins with many
        left = (now - started) / (done - before) * (total - done) if done > before else None
        text = f"{done:,} of {total:,} {unit}"
        display.update(done / max(total, 1), f"{text}, {figures}" if figures else text, left)

    start = f"{total:,} {unit} {about}".strip()
    with _displayed(title, f"0 of {total:,} {unit}", start) as display:
        yield report


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """The display of work whose length is not known, such as loading a model.

    A terminal shows it at once, and a log if it takes more than two seconds.
    """
    if not is_first_process() or not PROGRESS.isEnabledFor(logging.INFO):
        yield
        return
    from limner.progress.terminal import Bar, on_terminal

    view = Bar(what, "", None) if on_terminal() else Notice(what)
    try:
        yield
    finally:
        view.close(True)


@contextmanager
def _displayed(title: str, figures: str, start: str | None = None) -> Iterator[Display]:
    views = _views(title, figures, start)
    finished = False
    try:
        yield Display(views)
        finished = True
    finally:
        for view in views:
            view.close(finished)


def _views(title: str, figures: str, start: str | None) -> list[View]:
    """A view for people, unless the host has silenced Limner, and lines if they are logged."""
    views: list[View] = []
    if not is_first_process():
        return views
    if not any(log.disabled or log.level > logging.INFO for log in (LOGGER, PROGRESS)):
        from limner.progress.terminal import Bar, on_terminal

        if in_notebook():
            views.append(Notebook(title, figures))
        elif on_terminal():
            views.append(Bar(title, figures))
    if PROGRESS.isEnabledFor(logging.INFO):
        views.append(Lines(title, figures, start))
    return views
