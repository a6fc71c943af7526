"""The gain from keeping freed memory: the same training steps with and without it.

    python -m benchmarks.heap --out results/heap.json

Each variant runs in its own process, because a process has one allocator. They take turns.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro

from limner.storage import write_atomically
from limner.training.made import maker

CHILD = """
import resource, sys
from contextlib import nullcontext
from math import inf
from time import perf_counter
from benchmarks import speed
from limner.cpu.heap import kept_memory
from limner.models import build

name, batch, way, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
config, x = speed.RECIPES[name], speed.images(batch)
with kept_memory() if way == "kept" else nullcontext():
    model = build(config, speed.SHAPE).init_from_images(x).train()
    if model.compiling_pays_after < inf:
        model.compile_parts()
    step = speed.limner_step(model, x)
    for _ in range(3):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, perf_counter()
        for _ in range(count):
            step()
        seconds = (perf_counter() - started) / count
        faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / count
        print(seconds, faults, flush=True)
"""
STEPS = {
    "DRAW, MNIST recipe (T = 64)": 4,
    "DRAW without attention (T = 10)": 16,
    "VAE": 100,
    "Ladder VAE": 16,
}
"""Training steps per timing."""


class Way:
    """The process of one of the two variants."""

    def __init__(self, name: str, batch: int, way: str):
        self.child = subprocess.Popen(
            [sys.executable, "-c", CHILD, name, str(batch), way, str(STEPS[name])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()
        self.seconds: list[float] = []
        self.faults: list[float] = []

    def time(self) -> None:
        assert self.child.stdin is not None
        print(file=self.child.stdin, flush=True)
        seconds, faults = map(float, self._read().split())
        self.seconds.append(seconds)
        self.faults.append(faults)

    def _read(self) -> str:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError("The timed process has ended.")
        return line


def compare(*, batch: int = 128, rounds: int = 11, out: Path) -> None:
    """Time both variants in turn; print and write how much faster steps are with kept memory.

    Args:
        batch: images per step
        rounds: timings of each variant
        out: JSON file for the numbers
    """
    found: dict[str, Any] = {}
    for name in STEPS:
        plain, kept = ways = [Way(name, batch, way) for way in ("plain", "kept")]
        for _ in range(rounds):
            for way in ways:
                way.time()
        for way in ways:
            way.child.kill()
        ratios = sorted(a / b for a, b in zip(plain.seconds, kept.seconds, strict=True))
        found[name] = {
            "ratio": median(ratios),
            "low": ratios[rounds // 4],
            "high": ratios[-1 - rounds // 4],
            "milliseconds": [1e3 * median(way.seconds) for way in ways],
            "page_faults_a_step": [median(way.faults) for way in ways],
        }
        print(name, json.dumps(found[name]), flush=True)
    about = {"machine": maker(torch.device("cpu")).model_dump(), "batch": batch, "rounds": rounds}
    write_atomically(out, json.dumps(about | {"steps": found}, indent=2) + "\n")


if __name__ == "__main__":
    tyro.cli(compare, prog="python -m benchmarks.heap")
