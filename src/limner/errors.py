"""Errors that end a command early with a sentence instead of a traceback."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

LONGEST = 1200
"""Characters of a message; text from a file may be of any length."""


class InputError(ValueError):
    """Input that Limner cannot use. The message is one sentence: what was wrong and what to do.

    The command line prints it and exits with status 2; nothing has been written by then. Names and
    values that it quotes cannot break the line or send control characters to the terminal.
    """

    def __init__(self, sentence: str):
        shown = "".join(map(_printable, sentence))
        half = LONGEST // 2
        super().__init__(shown if len(shown) <= LONGEST else f"{shown[:half]} … {shown[-half:]}")


def unknown(what: str, name: str, known: Iterable[str], advice: str = "") -> InputError:
    """There is no `what` of that name: the nearest known name, all of them, then the advice."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    guess = f"did you mean {near[0]}? There are" if near else "there are"
    end = f"; {advice}." if advice else "."
    return InputError(f"There is no {what} {name!r}; {guess} {', '.join(known)}{end}")


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


class Stopped(Exception):
    """A signal ended long work, whose state is saved. `status` is the shell's, 128 + signal."""

    def __init__(self, sentence: str, signum: int):
        super().__init__(sentence)
        self.signum, self.status = signum, 128 + signum

    def __reduce__(self) -> tuple[type["Stopped"], tuple[str, int]]:
        return Stopped, (str(self), self.signum)


@contextmanager
def enough_memory(savings: str) -> Iterator[None]:
    """A context in which running out of memory becomes an `InputError` that says what to save."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        words = ("out of memory", "can't allocate memory", "alloc_failed", "bad_alloc")
        if not isinstance(error, MemoryError) and not any(word in text for word in words):
            raise
        raise InputError(f"There is not enough memory; {savings}.") from None
