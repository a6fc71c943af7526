"""Messages, and the progress of long work: a bar on a terminal, HTML in a notebook, lines in a log.

Messages and lines go to Python's `logging`, which the host application routes; see `messages`. Only
the first of several processes reports.
"""

from limner.progress.display import (
    Display,
    Report,
    TrainingDisplay,
    progress_bar,
    training_display,
    waiting,
)
from limner.progress.messages import counted, duration, once, say, suggest, warn
from limner.progress.printing import printed, wrapped

__all__ = [
    "Display",
    "Report",
    "TrainingDisplay",
    "counted",
    "duration",
    "once",
    "printed",
    "progress_bar",
    "say",
    "suggest",
    "training_display",
    "waiting",
    "warn",
    "wrapped",
]
