"""Ctrl-C and SIGTERM: recorded at once, handled between two steps."""

import contextlib
import signal
import threading
from types import FrameType
from typing import Self

from limner.progress import console


class StopSignals:
    """A context that records SIGINT and SIGTERM; a second signal interrupts at once.

    Handlers can only be set in the main thread: in other threads, signals are not recorded.
    """

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    def _remember(self, signum: int, _: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = signum
        with contextlib.suppress(RuntimeError, OSError):  # the signal came while one was printed
            console.print("Stopping after this step; a second Ctrl-C stops at once.")
