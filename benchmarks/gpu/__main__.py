"""The schedule: tests, figures and a training, one process after another, within a time."""

import json
import subprocess
import sys
import time
from pathlib import Path

import tyro

from benchmarks.gpu.options import Options
from benchmarks.gpu.parts import measure
from limner.data import DataConfig
from limner.data import load as load_data
from limner.errors import InputError

TESTS = 2.0
"""Minutes after which the tests are stopped."""
MEASURED = 0.6
"""Share of the whole time after which no figure is begun."""
EVALUATION = 1.0
"""Minutes that are left to validate the last weights and evaluate the best."""
LEAST = 0.5
"""Minutes for which a training is worth its start."""


class Schedule:
    """The time that is left, and processes that end with it."""

    def __init__(self, options: Options):
        self.options = options
        self.started = time.monotonic()

    def minutes(self) -> float:
        """Minutes since the start."""
        return (time.monotonic() - self.started) / 60

    def left(self) -> float:
        """Minutes to the end."""
        return self.options.minutes - self.minutes()

    def run(self, name: str, words: list[str], minutes: float) -> bool:
        """Run a Python module, its output in OUT/name.txt; whether it ended well, and in time."""
        if minutes <= 0:
            print(f"{name}: no time left", flush=True)
            return False
        command, status = [sys.executable, "-m", *words], "stopped: out of time"
        before = self.minutes()
        with (self.options.out / f"{name}.txt").open("a") as log:
            print("$", *command, file=log, flush=True)
            try:
                done = subprocess.run(
                    command, stdout=log, stderr=log, timeout=60 * minutes, check=False
                )
                status = f"exit status {done.returncode}"
            except subprocess.TimeoutExpired:
                print(status, file=log)
        print(f"{name}: {status}, {self.minutes() - before:.1f} minutes", flush=True)
        return status == "exit status 0"


def main() -> None:
    default = Options(Path("gpu"), DataConfig(name="mnist"))
    options = tyro.cli(Options, default=default, prog="python -m benchmarks.gpu")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.measure:
        measure(options)
        return
    for name in ("tests.txt", "benchmark.txt", "train.txt", "gpu.json"):
        (options.out / name).unlink(missing_ok=True)
    options.data = _available(options.data)
    schedule = Schedule(options)
    if not options.only:
        tests = ["pytest", "-m", "gpu", "tests/test_gpu.py", "-rs", "--durations=10"]
        schedule.run("tests", [*tests, "-p", "no:cacheprovider"], min(TESTS, schedule.left()))
    _measure(schedule)
    if not options.only:
        _train(schedule)
    print(f"done in {schedule.minutes():.1f} minutes: {options.out}", flush=True)


def _available(data: DataConfig) -> DataConfig:
    """`data`, or the digits that come with Limner if it is not here."""
    try:
        load_data(data)
    except (InputError, OSError) as error:
        print(f"{error} Instead: mnist-5k.", flush=True)
        return DataConfig(name="mnist-5k")
    return data


def _data_flags(data: DataConfig) -> list[str]:
    root = [] if data.root is None else ["--data.root", str(data.root)]
    return ["--data.name", data.name, *root]


def _measure(schedule: Schedule) -> None:
    """All figures; a process that ends early is followed by another for the parts after."""
    options, path = schedule.options, schedule.options.out / "gpu.json"
    done = -1
    while len(_names(path)) > done:
        done = len(_names(path))
        words = ["benchmarks.gpu", str(options.out), "--measure", "--device", options.device]
        words += [*_data_flags(options.data), "--batch", str(options.batch), "--only", options.only]
        left = MEASURED * options.minutes - schedule.minutes()
        words += ["--minutes", str(max(0.0, left)), *(["--tiny"] if options.tiny else [])]
        if schedule.run("benchmark", words, min(left + 1, schedule.left())):
            return


def _names(path: Path) -> list[str]:
    return list(json.loads(path.read_text())) if path.exists() else []


def _train(schedule: Schedule) -> None:
    """The training that is of most use in the time that is left; its run folder is OUT/run."""
    options = schedule.options
    minutes = 0.2 if options.tiny else schedule.left() - EVALUATION
    if minutes < (0 if options.tiny else LEAST):
        print(f"training: {minutes:.1f} minutes are left, too few", flush=True)
        return
    words = ["limner", "train", "--recipe", "draw-attention-learned-prior"]
    words += [*_data_flags(options.data), "--device", options.device, "--minutes", f"{minutes:.2f}"]
    words += ["--epochs", "None", "--batch-size", str(options.batch), "--evaluate-samples", "10"]
    words += ["--validate-every", "8", "--overwrite", "--out", str(options.out / "run")]
    if options.tiny:
        words += ["--model.num-steps", "2", "--model.hidden-dim", "16", "--compile", "never"]
    schedule.run(
        "train", [*words, "--overwrite", "--out", str(options.out / "run")], schedule.left()
    )


if __name__ == "__main__":
    main()
