"""`limner benchmark`: speed and memory compared with a textbook DRAW and the floor."""

import importlib
import sys
from pathlib import Path

from limner.errors import InputError


def benchmark(
    *,
    out: Path = Path("benchmark.json"),
    batch: int = 128,
    rounds: int = 7,
    depth: bool = False,
    compile: bool = True,
    device: str = "auto",
) -> None:
    """Training and sampling speed of every model, compared with a textbook DRAW and the floor.

    All variants are measured in turn in one run; quote the ratios. Needs the `benchmarks` folder
    of the source tree.

    Args:
        out: file for the numbers, as JSON
        batch: images per step
        rounds: number of measurements of each variant
        depth: also measure peak memory and time by number of steps (slow)
        compile: also measure the compiled mode
        device: where to compute: auto, cpu, cuda, mps or another name of torch, such as cuda:1
    """
    from limner.device import is_tried, pick_device

    root = Path(__file__).resolve().parents[3]
    if not (root / "benchmarks" / "report.py").is_file():
        raise InputError(
            "The benchmarks are only in the source tree; run this command from a clone of it."
        )
    chosen = pick_device(device)
    if not is_tried(chosen):
        raise InputError(f"The benchmarks measure a CPU or CUDA, not {chosen}; pass --device cpu.")
    if depth and sys.platform != "linux":
        raise InputError("--depth reads peak memory as Linux reports it; leave it out here.")
    sys.path.insert(0, str(root))
    run = importlib.import_module("benchmarks.report").run
    run(out, batch=batch, rounds=rounds, depth=depth, compile=compile, device=chosen)
