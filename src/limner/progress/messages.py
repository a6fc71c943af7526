"""Messages to the logger `limner`, and lines about progress to `limner.progress`.

Limner adds no handler, so that Python's last resort prints warnings to standard error if the host
application configures nothing; a NullHandler would silence them. The command line adds a handler
for its duration, see `limner.progress.terminal`.
"""

import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from limner.errors import worded

LOGGER = logging.getLogger("limner")
PROGRESS = logging.getLogger("limner.progress")

_warned: ContextVar[set[str] | None] = ContextVar("warned", default=None)


def warn(sentence: str) -> None:
    """Log a warning, once in a context of `once`."""
    warned = _warned.get()
    if warned is not None:
        if sentence in warned:
            return
        warned.add(sentence)
    if is_first_process():
        LOGGER.warning("%s", worded(sentence))


def say(sentence: str) -> None:
    """Log what happens, at the level INFO."""
    if is_first_process():
        LOGGER.info("%s", worded(sentence))


def suggest(command: str, subject: object = "") -> None:
    """Log a command that a user may want next, such as `limner report runs/draw`.

    What was printed comes first, also if both streams go to one file.
    """
    sys.stdout.flush()
    say(f"next: limner {command} {shlex.quote(str(subject)) if subject else ''}".rstrip())


@contextmanager
def once() -> Iterator[None]:
    """A context, such as one training, in which no warning is repeated.

    Contexts inside it belong to it. Every thread has its own.
    """
    if _warned.get() is not None:
        yield
        return
    token = _warned.set(set())
    try:
        yield
    finally:
        _warned.reset(token)


def is_first_process() -> bool:
    """Whether this is the first of the processes of a launcher, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def duration(seconds: float) -> str:
    """Such as 3:12, or 1:03:12."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def counted(count: int, noun: str) -> str:
    """Such as 1 step, or 1,200 steps."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
