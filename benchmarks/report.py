"""The complete benchmark: measures, prints tables and writes JSON."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import floor, memory, speed
from limner.cpu.heap import kept_memory
from limner.models import DRAW, build
from limner.progress import progress_bar
from limner.storage import write_atomically
from limner.training.compilation import has_compiler
from limner.training.made import maker

DEPTHS = {"store": (16, 32, 64, 256, 1024), "recompute": (16, 32, 64, 256, 1024, 4096)}
"""Numbers of steps at batch 128."""
DEEPEST = (8192, 16)
"""Number of steps and batch of the deepest training."""

COLD = """
import time, torch
from benchmarks import speed
from limner.models import build
config = speed.RECIPES["DRAW, MNIST recipe (T = 64)"]
x = speed.images(128)
model = build(config, speed.SHAPE).init_from_images(x)
model.compile_parts()
step = speed.limner_step(model, x)
started = time.perf_counter()
step()
print(time.perf_counter() - started)
"""


@kept_memory()
def run(
    out: Path, *, batch: int, rounds: int, depth: bool, compile: bool, device: torch.device
) -> dict[str, Any]:
    """Measure everything, print tables, and write `out`."""
    console, compile = Console(), compile and has_compiler()
    results: dict[str, Any] = {
        "machine": maker(device).model_dump(),
        "batch": batch,
        "rounds": rounds,
    }
    count = len(speed.RECIPES) + (1 + compile + depth if device.type == "cpu" else 0)
    with progress_bar("benchmark", count, "parts", f"on {device} to {out}") as report:
        for done, part in enumerate(_parts(console, results, rounds, depth, compile, device), 1):
            report(done, part)
    write_atomically(out, json.dumps(results, indent=2) + "\n")
    console.print(f"written to {out}", highlight=False)
    return results


def _parts(
    console: Console,
    results: dict[str, Any],
    rounds: int,
    depth: bool,
    compile: bool,
    device: torch.device,
) -> Iterator[str]:
    """Adds one part after the other to `results`, and prints it; yields its name."""
    batch, results["speed"] = results["batch"], {name: {} for name in speed.RECIPES}
    for name in speed.RECIPES:
        results["speed"][name] = measured(name, batch, rounds, device, compile)
        console.print(speed_table(name, results["speed"][name]))
        yield name
    if device.type == "cpu":
        loop = {kind: speed.loop_against_step(kind, batch) for kind in ("VAE", "Ladder VAE")}
        results["loop"], results["data_path_seconds"] = loop, speed.data_path(batch)
        for kind, share in loop.items():
            console.print(f"{kind}: training loop at {share['ratio']:.3f} of the bare step's speed")
        step = results["speed"]["VAE"]["eager"]["milliseconds"] / 1e3
        share = results["data_path_seconds"]["median"] / step
        console.print(f"data path: {100 * share:.1f} % of a VAE training step")
        yield "training loop"
        if compile:
            results["cold_compile_seconds"] = cold_compile()
            console.print(f"first compiled step, cold: {results['cold_compile_seconds']:.1f} s")
            yield "first compiled step"
        if depth:
            results["memory"] = depths(batch)
            console.print(memory_table(results["memory"]))
            yield "depth"


def measured(
    name: str, batch: int, rounds: int, device: torch.device, compile: bool
) -> dict[str, Any]:
    """Rates of all variants of a recipe and of its floors, measured in turn."""
    steps = speed.variants(name, batch, device, compile)
    model = build(speed.RECIPES[name], speed.SHAPE)
    floors: dict[str, Floor] = {}
    if isinstance(model, DRAW) and device.type == "cpu":
        floors["floor"] = Floor(floor.products(model, batch))
        floors["gathered floor"] = Floor(floor.products(model, batch, gathered=True))
    steps |= {name: each.time for name, each in floors.items()}
    seconds = speed.interleaved(steps, rounds, device)
    found: dict[str, Any] = {
        key: speed.summary(times, batch) for key, times in seconds.items() if key not in floors
    }
    return found | {name: each.summary() for name, each in floors.items()}


class Floor:
    """Products, each timed alone once per round."""

    def __init__(self, products: list[floor.Product]):
        self.products = products
        self.seconds: list[list[float]] = []

    def time(self) -> None:
        self.seconds.append([floor.timed(product) for product in self.products])

    def summary(self) -> dict[str, Any]:
        medians = [1e3 * median(times) for times in zip(*self.seconds, strict=True)]
        pairs = list(zip(self.products, medians, strict=True))
        return {
            "milliseconds": sum(product.times * each for product, each in pairs),
            "products": [product._asdict() | {"milliseconds": each} for product, each in pairs],
        }


def speed_table(name: str, found: dict[str, Any]) -> Table:
    table = Table(
        name,
        "images per second",
        "quartiles",
        "against textbook",
        "floor over it",
        "gathered floor",
    )
    for key, figures in found.items():
        if key.endswith("floor"):
            continue
        ratio = (
            found["textbook"]["milliseconds"] / figures["milliseconds"]
            if ("textbook" in found and key != "sampling")
            else None
        )
        shares = [
            f"{found[each]['milliseconds'] / figures['milliseconds']:.2f}"
            if each in found and key != "sampling"
            else ""
            for each in ("floor", "gathered floor")
        ]
        table.add_row(
            key,
            f"{figures['images_per_second']:,.0f}",
            f"{figures['low']:,.0f} to {figures['high']:,.0f}",
            f"{ratio:.2f}x" if ratio else "",
            *shares,
        )
    return table


def cold_compile() -> float:
    """Seconds to the first compiled step of the MNIST recipe with an empty compiler cache."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, "-c", COLD],
            env=os.environ
            | {"TORCHINDUCTOR_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
    return float(done.stdout)


def depths(batch: int) -> list[dict[str, Any]]:
    """Peak memory and seconds per step as a function of depth, for both memory modes."""
    wanted = [(n, kind, batch) for kind, steps in DEPTHS.items() for n in steps]
    wanted.append((DEEPEST[0], "recompute", DEEPEST[1]))
    return [memory.measure(*each, count=2 if each[0] <= 1024 else 1) for each in wanted]


def memory_table(found: list[dict[str, Any]]) -> Table:
    table = Table("T", "batch", "memory", "peak MiB", "seconds per step", "first bound")
    for entry in found:
        table.add_row(
            f"{entry['num_steps']:,}",
            str(entry["batch"]),
            entry["memory"],
            f"{entry['bytes'] / 2**20:,.0f}",
            f"{entry['seconds']:.2f}",
            f"{entry['bounds'][0]:.1f}",
        )
    return table
