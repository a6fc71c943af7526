"""Errors that end a command with one sentence instead of a traceback."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches

from limner.keywords import in_keywords

LONGEST = 1200
"""Characters in a message, which may quote text of any length from a file."""


class InputError(ValueError):
    """Input that Limner cannot use. The message is one sentence: what is wrong and what to do.

    The command line prints it and exits with status 2, before anything is written. Quoted names and
    values cannot contain line breaks or control characters.
    """

    def __init__(self, sentence: str):
        shown = worded(sentence)
        half = LONGEST // 2
        super().__init__(shown if len(shown) <= LONGEST else f"{shown[:half]} … {shown[-half:]}")


def unknown(what: str, name: str, known: Iterable[str], advice: str = "") -> InputError:
    """The error for an unknown name: the nearest known name, all known names, then the advice."""
    known = list(known)
    guess = nearest(name, known)
    there = f"{guess}There are" if guess else "there are"
    end = f"; {advice}." if advice else "."
    return InputError(f"There is no {what} {name!r}; {there} {', '.join(known)}{end}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A question, such as "did you mean draw? ", if a known name is near; otherwise nothing."""
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""


_in_python = ContextVar("in_python", default=False)
_on_command_line = ContextVar("on_command_line", default=False)


@contextmanager
def on_command_line() -> Iterator[None]:
    """A context in which configs name their settings as flags."""
    token = _on_command_line.set(True)
    try:
        yield
    finally:
        _on_command_line.reset(token)


def names_flags() -> bool:
    """Whether configs name their settings as flags."""
    return _on_command_line.get()


@contextmanager
def in_python() -> Iterator[None]:
    """A context in which sentences name keywords, batch_size, in place of flags, --batch-size."""
    token = _in_python.set(True)
    try:
        yield
    finally:
        _in_python.reset(token)


def worded(sentence: str) -> str:
    """A sentence as it is shown: printable, and inside `in_python` without flags."""
    return printable(in_keywords(sentence) if _in_python.get() else sentence)


def printable(text: str) -> str:
    """The text with line breaks, control characters and invalid UTF-8 as Python writes them."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Stopped(Exception):
    """A signal ended a command, and its state is saved. The exit `status` is 128 + signal."""

    def __init__(self, sentence: str, signum: int):
        super().__init__(worded(sentence))
        self.signum, self.status = signum, 128 + signum

    def __reduce__(self) -> tuple[type["Stopped"], tuple[str, int]]:
        return Stopped, (str(self), self.signum)


@contextmanager
def enough_memory(savings: str) -> Iterator[None]:
    """A context that turns an out-of-memory error into an `InputError` with advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        words = ("out of memory", "can't allocate memory", "alloc_failed", "bad_alloc")
        if not isinstance(error, MemoryError) and not any(word in text for word in words):
            raise
        raise InputError(f"There is not enough memory; {savings}.") from None
