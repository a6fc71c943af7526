"""Ctrl-C and SIGTERM: recorded at once, handled between two steps."""

import contextlib
import signal
import threading
from traceback import walk_stack
from types import FrameType
from typing import Self

from limner.progress import warn

COMPILING = (
    "limner.layers.compiling",  # imports the compiler, which takes seconds
    "torch._dynamo.convert_frame",
    "torch._inductor.compile_fx",
)
"""Modules of which one is on the stack while torch.compile is at work."""


class CompilationStopped(KeyboardInterrupt):
    """A signal came during a compilation, which takes too long to be waited for.

    The step that was being compiled has changed nothing but gradients.
    """


class StopSignals:
    """A context that records SIGINT and SIGTERM; a second signal interrupts at once.

    Handlers can only be set in the main thread: in other threads, signals are not recorded.

    Args:
        stops_compiling: whether the first signal interrupts a compilation, with
            `CompilationStopped`; several processes have to end the same step.
    """

    def __init__(self, stops_compiling: bool = False) -> None:
        self.received = 0
        self._stops_compiling = stops_compiling
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        again, self.received = self.received, self.received or signum
        if self._stops_compiling and is_compiling(frame):
            raise CompilationStopped
        if again:
            raise KeyboardInterrupt
        with contextlib.suppress(RuntimeError, OSError):  # the signal came while one was printed
            warn("Stopping after this step; a second Ctrl-C stops at once.")


def is_compiling(frame: FrameType | None) -> bool:
    """Whether a function that `frame` was called by, directly or not, compiles."""
    return frame is not None and any(
        one.f_globals.get("__name__") in COMPILING for one, _ in walk_stack(frame)
    )
