"""Two versions of Limner in turn: how much faster the second one takes its training steps.

    git worktree add --detach ../before COMMIT
    python -m benchmarks.versions ../before/src src --out results/versions.json

Each version runs in a process of its own. One takes some steps, then the other, in alternating
order; the ratio of each pair is not affected by a machine whose speed drifts.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import quantiles
from typing import Annotated, Any

import torch
import tyro

from limner.storage import write_atomically
from limner.training.made import maker

WORKER = """
import json, sys, time
import torch
from limner.models import DRAWConfig, LadderVAEConfig, VAEConfig, build
from limner.objectives import elbo

kind, mode, threads, batch = json.loads(sys.argv[1])
config = {
    "draw-64": DRAWConfig(num_steps=64, attention="filterbank"),
    "draw-10": DRAWConfig(num_steps=10),
    "vae": VAEConfig(),
    "ladder-vae": LadderVAEConfig(),
}[kind]
torch.set_num_threads(threads)
torch.manual_seed(0)
x = (torch.rand(batch, 1, 28, 28) < 0.15).float()
model = build(config, (1, 28, 28)).init_from_images(x).train()
if mode == "compiled":
    model.compile_parts()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

def step():
    if mode == "sampling":
        with torch.no_grad():
            model.sample(batch)
        return
    (-elbo(model(x)).mean()).backward()
    optimizer.step()
    optimizer.zero_grad()

started = time.perf_counter()
step()
print(time.perf_counter() - started, flush=True)
step()
for line in sys.stdin:
    started = time.perf_counter()
    for _ in range(int(line)):
        step()
    print(time.perf_counter() - started, flush=True)
"""
STEPS = {"draw-64": 3, "draw-10": 8, "vae": 60, "ladder-vae": 25}
"""Steps at a time, for about a second."""
MODES = ("eager", "compiled", "sampling")


def compare(
    before: Annotated[Path, tyro.conf.Positional],
    after: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path | None = None,
    rounds: int = 15,
    threads: int = 2,
    batch: int = 128,
    kinds: tuple[str, ...] = tuple(STEPS),
    modes: tuple[str, ...] = MODES,
) -> None:
    """Print, and write to `out`, the time of steps `before` divided by that `after`.

    Args:
        before: the `src` folder of one version
        after: that of the other
        out: a JSON file
        rounds: pairs of measurements
        threads: of torch
        batch: images per step
        kinds: models
        modes: of steps
    """
    found = []
    for kind in kinds:
        for mode in modes:
            row = {"model": kind, "mode": mode, **_measured((before, after), kind, mode, rounds,
                                                            threads, batch)}  # fmt: skip
            print(json.dumps(row), flush=True)
            found.append(row)
    if out is not None:
        about = maker(torch.device("cpu")).model_dump() | {"threads": threads, "batch": batch}
        document = {"made": about, "rounds": rounds, "ratios": found}
        write_atomically(out, json.dumps(document, indent=2) + "\n")


def _measured(
    versions: tuple[Path, Path], kind: str, mode: str, rounds: int, threads: int, batch: int
) -> dict[str, Any]:
    job = json.dumps([kind, mode, threads, batch])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(version.resolve())},
        )
        for version in versions
    ]
    try:
        first = [float(_line(worker)) for worker in workers]
        steps = STEPS[kind] * (8 if mode == "sampling" else 1)
        seconds: tuple[list[float], list[float]] = ([], [])
        for k in range(rounds):
            for which in (0, 1) if k % 2 == 0 else (1, 0):
                seconds[which].append(float(_line(workers[which], f"{steps}\n")) / steps)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    ratios = [a / b for a, b in zip(*seconds, strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    before, after = (1000 * quantiles(each, n=4)[1] for each in seconds)
    return {
        "ratio": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "milliseconds": [round(before, 2), round(after, 2)],
        "first_step_seconds": [round(each, 1) for each in first],
    }


def _line(worker: subprocess.Popen[str], request: str = "") -> str:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(request)
    worker.stdin.flush()
    return worker.stdout.readline()


if __name__ == "__main__":
    tyro.cli(compare, prog="python -m benchmarks.versions")
