"""A study from its plan to its table. OUT holds, beside a run folder for each run:

study.json       the plan: labels, folder and seed of every run
configs/         the config that each run is started with
logs/            what each run printed
results.json, results.csv, figure.svg, figure.png, report.html
"""

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from limner.config import RunConfig
from limner.errors import InputError
from limner.progress import say, warn
from limner.storage import write_atomically
from limner.studies.engines import Engine, Task
from limner.studies.planning import Planned
from limner.studies.resources import longest_first
from limner.training.resuming import differing, position_of
from limner.training.runs import Run

PLAN, LOCK = "study.json", ".lock"
EMPTY = {LOCK, "configs", "logs"}
"""What a study that was stopped before its plan was written may have left."""
WITHOUT_EFFECT = frozenset(
    {"checkpoint_minutes", "compile", "data.root", "device", "evaluate_samples", "trackers"}
)
"""Settings by dotted name that a run need not share with its plan: none changes its weights."""
Show = Callable[["Progress"], None]


class Outcome(NamedTuple):
    """What became of a planned run."""

    planned: Planned
    folder: Path
    problem: str | None = None
    """Why it failed, in its own words."""

    @property
    def run(self) -> Run:
        return Run.at(self.folder)


class Progress(NamedTuple):
    """Where a study stands."""

    finished: int
    failed: int
    total: int
    under_way: dict[str, str]
    """The last line of each run under way."""
    seconds_left: float | None
    """None until runs have ended."""


def carry_out(
    plan: Sequence[Planned], out: Path, engine: Engine, show: Show = lambda _: None
) -> list[Outcome]:
    """Train what is not finished; returns what became of each run of the plan.

    Raises:
        InputError: `out` is not a study's, or cannot be written to.
        KeyboardInterrupt: the runs under way have saved their states.
    """
    with held(out):
        return _carry_out(plan, out, engine, show)


def _carry_out(plan: Sequence[Planned], out: Path, engine: Engine, show: Show) -> list[Outcome]:
    folders = {planned.name: _folder(out, planned) for planned in plan}
    _write_plan(out, plan, folders)
    waiting = {
        _task(out, folders[planned.name], planned.config): planned
        for planned in longest_first(plan)
        if not is_finished(folders[planned.name], planned.config)
    }
    done = len(plan) - len(waiting)
    say(
        f"{len(plan)} runs, to {out}: {done} finished before, {len(waiting)} to train."
        if done
        else f"{len(plan)} runs to train, to {out}."
    )
    problems = _Follower(len(plan), waiting, show).follow(engine) if waiting else {}
    return [Outcome(planned, folders[planned.name], problems.get(planned.name)) for planned in plan]


def is_finished(folder: Path, config: RunConfig) -> bool:
    """Whether the run in `folder` has spent its budget and was evaluated as planned."""
    try:
        run = Run.at(folder)
        results, metrics = run.results(), run.metrics()
    except InputError:
        return False
    if results is None or not metrics:
        return False
    last, position = metrics[-1], position_of(folder)
    epochs, minutes = position[1:3] if position else (last["epoch"], last["seconds"] / 60)
    spent = [(config.epochs, epochs), (config.minutes, minutes)]
    return (
        any(budget is not None and used >= budget for budget, used in spent)
        and results["epochs"] == last["epoch"]  # not evaluated before the end
        and results["iw_bound"]["num_samples"] == config.evaluate_samples
    )


def _folder(out: Path, planned: Planned) -> Path:
    """The folder of a run: the first of NAME, NAME-2, ... that is its own or free.

    A run whose settings were changed in the study file so gets a new folder, and the old one stays.
    """
    number, folder = 1, out / planned.name
    while (folder / "config.json").is_file() and not _alike(folder, planned.config):
        number += 1
        folder = out / f"{planned.name}-{number}"
    return folder


def _alike(folder: Path, config: RunConfig) -> bool:
    try:
        known = Run.at(folder).config
    except InputError:
        return False
    return not set(differing(known, config)) - WITHOUT_EFFECT


@contextmanager
def held(out: Path) -> Iterator[None]:
    """The folder of a study, which no other command trains in meanwhile."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is not a folder; choose another --out.")
    found = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if found - EMPTY and PLAN not in found:
        raise InputError(f"{out} exists and is not a study; choose another --out.")
    try:
        for name in ("configs", "logs"):
            (out / name).mkdir(parents=True, exist_ok=True)
        held = FileLock(out / LOCK, thread_local=False).acquire(timeout=0)
    except Timeout:
        raise InputError(f"Another study trains in {out}; wait for it or stop it.") from None
    except OSError as error:
        raise InputError(
            f"Cannot write to {out}: {error.strerror}; choose another --out."
        ) from None
    with held:
        yield


def _write_plan(out: Path, plan: Sequence[Planned], folders: dict[str, Path]) -> None:
    entries = [
        {"run": folders[run.name].name, "labels": dict(run.labels), "seed": run.config.seed}
        for run in plan
    ]
    write_atomically(out / PLAN, json.dumps({"runs": entries}, indent=2) + "\n")


def _task(out: Path, folder: Path, config: RunConfig) -> Task:
    path = out / "configs" / f"{folder.name}.json"
    write_atomically(path, config.to_json())
    return Task(folder, path, out / "logs" / f"{folder.name}.log")


class _Follower:
    """Counts what has ended, and estimates the time that is left."""

    def __init__(self, total: int, waiting: dict[Task, Planned], show: Show):
        self.total, self.waiting, self.show = total, waiting, show
        self.problems: dict[str, str] = {}
        self.ended = 0
        self.started = time.monotonic()

    def follow(self, engine: Engine) -> dict[str, str]:
        """The problem of each run that failed."""
        engine.run(list(self.waiting), self._ended, self._tick)
        return self.problems

    def _ended(self, task: Task, status: int) -> None:
        self.ended += 1
        name = self.waiting[task].name
        if status == 0:
            say(f"{task.folder.name}: finished, {self.ended} of {len(self.waiting)}.")
            return
        self.problems[name] = problem_in(task.log, status)
        warn(f"{task.folder.name} failed: {self.problems[name]}")

    def _tick(self, under_way: Sequence[Task]) -> None:
        count, left = len(self.waiting), None
        if self.ended:
            seconds = time.monotonic() - self.started
            left = seconds / self.ended * (count - self.ended)
        finished = self.total - count + self.ended - len(self.problems)
        lines = {task.folder.name: last_line(task.log) for task in under_way}
        self.show(Progress(finished, len(self.problems), self.total, lines, left))


def last_line(log: Path) -> str:
    """The last line that a run has printed."""
    lines = _end_of(log).splitlines()
    return lines[-1] if lines else "starting"


def problem_in(log: Path, status: int) -> str:
    """The sentence of `limner` that ended a run, or what else is known of its end.

    Lines of an earlier process of the run may come before.
    """
    lines = [line for line in _end_of(log).splitlines() if line.strip()]
    if status < 0:
        after = f" after: {lines[-1]}" if lines else ""
        return f"it was killed by {_signal(-status)}{after}"
    own = [line.removeprefix("limner: ") for line in lines if line.startswith("limner: ")]
    said = own if status == 2 or status > 128 else []
    return (said or lines or [f"it ended with status {status}"])[-1]


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end_of(log: Path, limit: int = 8192) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - limit))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
