"""Progress in a Jupyter notebook: one HTML output, updated in place, without widgets."""

import importlib
import time
from html import escape

from limner.progress.messages import duration

INTERVAL = 0.5
"""Seconds between two updates."""


class Notebook:
    """A bar with figures, which becomes one line at the end."""

    def __init__(self, title: str, figures: str):
        self._title, self._share, self._figures = title, 0.0, figures
        self._started = self._shown = time.monotonic()
        display = importlib.import_module("IPython.display").display
        self._handle = display(self._bar(None), raw=True, display_id=True)

    def due(self) -> bool:
        return time.monotonic() - self._shown >= INTERVAL

    def show(self, share: float, figures: str, seconds_left: float | None) -> None:
        self._share, self._figures = share, figures
        if self.due():
            self._shown = time.monotonic()
            self._handle.update(self._bar(seconds_left), raw=True)

    def close(self, finished: bool) -> None:
        elapsed = duration(time.monotonic() - self._started)
        ended = f"done in {elapsed}" if finished else f"stopped after {elapsed}"
        text = f"{self._title}: {ended}, {self._figures}"
        self._handle.update(_bundle(text, f"<small>{escape(text)}</small>"), raw=True)

    def _bar(self, seconds_left: float | None) -> dict[str, str]:
        left = "" if seconds_left is None else f", {duration(seconds_left)} left"
        figures = f"{self._figures}{left}"
        html = (
            '<div style="max-width: 40em">'
            f"<b>{escape(self._title)}</b><br>"
            f'<progress max="1" value="{self._share:.4f}" style="width: 100%"></progress><br>'
            f"<small>{escape(figures)}</small></div>"
        )
        return _bundle(f"{self._title}: {self._share:.0%}, {figures}", html)


def _bundle(text: str, html: str) -> dict[str, str]:
    """One output in the two forms that front ends choose from."""
    return {"text/plain": text, "text/html": html}
