"""The display of a study: a line per run under way and one for the whole, or lines of a log."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from limner.progress import Display, training_display
from limner.progress.terminal import on_terminal
from limner.studies.studying import Progress, Show

SHARE = re.compile(r": (\d+)%, (.*)")
"""The share that is done, in a line of a run's log."""


@contextmanager
def displayed(title: str) -> Iterator[Show]:
    """A context whose value shows a study's progress."""
    with training_display(title, "starting") as whole, ExitStack() as stack:
        yield _Lines(whole, stack)


class _Lines:
    """On a terminal every run under way has a line of its own."""

    def __init__(self, whole: Display, stack: ExitStack):
        self._whole, self._runs = whole, dict[str, tuple[Display, ExitStack]]()
        stack.callback(self._close, [])

    def __call__(self, progress: Progress) -> None:
        done = progress.finished + progress.failed
        words = [f"{done} of {progress.total} runs", f"{len(progress.under_way)} under way"]
        if progress.failed:
            words.append(f"{progress.failed} failed")
        self._whole.update(done / progress.total, ", ".join(words), progress.seconds_left)
        if on_terminal():
            self._show_runs(progress.under_way)

    def _show_runs(self, lines: dict[str, str]) -> None:
        self._close([name for name in self._runs if name in lines])
        for name, line in lines.items():
            if name not in self._runs:
                stack = ExitStack()
                self._runs[name] = stack.enter_context(training_display(name)), stack
            found = SHARE.search(line)
            share, figures = (int(found[1]) / 100, found[2]) if found else (0.0, line)
            self._runs[name][0].update(share, figures, None)

    def _close(self, kept: list[str]) -> None:
        for name in [name for name in self._runs if name not in kept]:
            self._runs.pop(name)[1].close()
