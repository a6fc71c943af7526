"""Progress as lines of a log: the first after some seconds, then at least one a minute."""

import threading
import time
from contextlib import suppress

from limner.progress.messages import PROGRESS, duration

FIRST = 10.0
"""Seconds until the first line with figures."""
INTERVAL = 45.0
"""Seconds from one line to the next, if there are new figures."""
LATEST = 50.0
"""Seconds after which a line comes without new figures, such as in a slow step or a compilation."""
TICK = 2.0
"""Seconds between two looks at whether a line is overdue."""
SOON = 20.0
"""`LATEST` for the first line."""


QUIET = 2.0
"""Seconds of silence before a log names work whose length is not known."""


class Notice:
    """Logs the name of some work, unless it ends soon."""

    def __init__(self, what: str):
        self._timer = threading.Timer(QUIET, PROGRESS.info, ("%s ...", what))
        self._timer.daemon = True
        self._timer.start()

    def close(self, finished: bool) -> None:
        self._timer.cancel()
        self._timer.join()


class Lines:
    """Logs the progress of one piece of work.

    With `start` it logs that at once, and the end if it took long; otherwise the caller does. A
    thread of its own logs if the work has reported nothing for a minute.
    """

    def __init__(self, title: str, figures: str, start: str | None = None):
        self._title, self._text, self._start = title, figures, start
        self._started = self._logged = time.monotonic()
        self._count = 0
        self._lock, self._ended = threading.Lock(), threading.Event()
        if start is not None:
            PROGRESS.info("%s: %s", title, start)
        self._watch = threading.Thread(target=self._wait, name="limner-progress", daemon=True)
        with suppress(RuntimeError):  # no memory for a thread: the work itself reports that
            self._watch.start()

    def due(self) -> bool:
        return self._silent_for(INTERVAL if self._count else FIRST)

    def show(self, share: float, figures: str, seconds_left: float | None) -> None:
        left = "" if seconds_left is None else f", {duration(seconds_left)} left"
        with self._lock:
            self._text = f"{share:.0%}, {figures}"
            if self.due():
                self._log(self._text + left)

    def remind(self) -> None:
        """Log that the work continues, if nothing has been logged for long."""
        with self._lock:
            if self._silent_for(LATEST if self._count else SOON):
                elapsed = duration(time.monotonic() - self._started)
                self._log(f"{self._text}; still at work after {elapsed}")

    def close(self, finished: bool) -> None:
        self._ended.set()
        if self._watch.ident is not None:
            self._watch.join()
        if finished and self._count and self._start is not None:
            elapsed = duration(time.monotonic() - self._started)
            self._log(f"done in {elapsed}")

    def _silent_for(self, seconds: float) -> bool:
        return time.monotonic() - self._logged >= seconds

    def _log(self, text: str) -> None:
        self._logged, self._count = time.monotonic(), self._count + 1
        PROGRESS.info("%s: %s", self._title, text)

    def _wait(self) -> None:
        while not self._ended.wait(TICK):
            self.remind()
