"""One run of a study, trained and evaluated in a process of its own.

    python -m limner.studies.working FOLDER CONFIG

trains CONFIG in the run folder FOLDER by `limner train`, or continues there. The process ends, its
state saved, when its standard input is closed, so that no run outlives the study that started it.
"""

import os
import runpy
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from limner.config import RunConfig

STDIN = 0
PATIENCE = 120.0
"""Seconds to wait for an earlier process of the same run that is still saving."""


def work(folder: Path, config: Path) -> None:
    """Train and evaluate, as `python -m limner train` does; ends this process."""
    threading.Thread(target=_end_with_the_study, daemon=True).start()
    begun = (folder / "config.json").is_file()
    if begun:
        with suppress(Timeout):  # `limner train` says what holds the folder
            FileLock(folder / ".lock").acquire(timeout=PATIENCE).lock.release()
    how = _changes(RunConfig.read(config)) if begun else ["--config", str(config)]
    sys.argv = ["limner", "train", *how, "--out", str(folder)]
    runpy.run_module("limner", run_name="__main__")


def _changes(config: RunConfig) -> list[str]:
    """The flags with which a run continues: its plan may differ in what changes no weight."""
    return [
        *("--resume", "--device", config.device, "--compile", config.compile),
        *("--evaluate-samples", str(config.evaluate_samples)),
        *("--checkpoint-minutes", str(config.checkpoint_minutes)),
        *([] if config.data.root is None else ["--data.root", str(config.data.root)]),
    ]


def _end_with_the_study() -> None:
    while os.read(STDIN, 1):  # not sys.stdin, whose lock would be held at exit
        pass
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    work(Path(sys.argv[1]), Path(sys.argv[2]))
