"""The messages of the command line on standard error, without rich unless a bar is shown."""

import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from textwrap import fill
from typing import Any, TextIO

from limner.progress.messages import LOGGER, PROGRESS

BARS = "limner.progress.terminal"
"""The module of the bars, which is imported when the first one is shown."""


@contextmanager
def printed() -> Iterator[None]:
    """A context in which messages are printed to standard error, a line each, and flushed.

    Lines about progress are left out on a terminal, which shows a bar. Levels that the host has set
    are respected.
    """
    level, propagate, handler = LOGGER.level, LOGGER.propagate, _Printing()
    LOGGER.addHandler(handler)
    LOGGER.propagate = False  # the root logger may have a handler for the same terminal
    LOGGER.setLevel(level or logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.propagate = propagate
        LOGGER.setLevel(level)


class _Printing(logging.Handler):
    """Prints records, above the bars if there are any; a terminal's lines end between words."""

    def emit(self, record: logging.LogRecord) -> None:
        bars: Any = sys.modules.get(BARS)
        if record.name == PROGRESS.name and bars is not None and bars.on_terminal():
            return
        # Standard error is closed or full, or a signal came while it was written to:
        with suppress(OSError, RuntimeError):
            if bars is None:
                print(wrapped(record.getMessage(), sys.stderr), file=sys.stderr, flush=True)
            else:
                bars.print_above(record.getMessage())


def wrapped(text: str, stream: TextIO, margin: str = "") -> str:
    """The text in lines as wide as the terminal, if `stream` is one, the later ones indented."""
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return fill(
        text, width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )
