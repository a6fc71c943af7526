"""Peak memory and time of training steps as a function of depth, each in its own process.

Needs Linux, whose kernel can reset the peak. The command

    python -m benchmarks.memory --out results/deepest.json

runs the first hundred training steps of a DRAW with 8,192 steps.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import tyro

from limner.storage import write_atomically
from limner.training.made import maker

CHILD = """
import json, re, sys, time
from pathlib import Path
import torch
from limner.config import OptimizerConfig
from limner.data import DataConfig, TrainingBatches, frozen, load
from limner.cpu.heap import kept_memory
from limner.models import DRAWConfig, build
from limner.objectives import elbo
from limner.training.optimizer import GuardedStep, build_optimizer

num_steps, memory, batch, count, threads, compile, rate, images = json.loads(sys.argv[1])
torch.set_num_threads(threads)
torch.manual_seed(0)
dataset = load(DataConfig())
batches = TrainingBatches(dataset, "bernoulli", batch, seed=0)
model = build(DRAWConfig(num_steps=num_steps, attention="filterbank", memory=memory), (1, 28, 28))
model.init_from_images(frozen(dataset, "train", "bernoulli")).train()
if compile:
    model.compile_parts()
config = OptimizerConfig(learning_rate=rate, warmup_steps=20)
take = GuardedStep(build_optimizer(model, config), config.clip_norm, torch.device("cpu"))

def step(index):
    x, started = batches.batch(0, index), time.perf_counter()
    bound = elbo(model(x)).mean()
    (-bound).backward()
    take(config.learning_rate * min(1, (index + 1) / config.warmup_steps))
    take.optimizer.zero_grad()
    seconds = time.perf_counter() - started
    print(f"step {index + 1}: {bound:.2f} nats, {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds, bound.item()

@torch.no_grad()
def bound_of(x):
    return elbo(model.infer(x, torch.Generator().manual_seed(0))).mean().item()

def resident(kind):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{kind}:\\s+(\\d+) kB", status).group(1))

fixed = frozen(dataset, "validation", "bernoulli")[:images]
with kept_memory():
    model.num_steps = 1
    step(0)
    model.num_steps = num_steps
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    first = bound_of(fixed) if images else None
    steps = [step(index) for index in range(count)]
    last = bound_of(fixed) if images else None
    peak = resident("VmHWM")
print(json.dumps({
    "bytes": peak - before,
    "seconds": min(seconds for seconds, _ in steps),
    "bounds": [bound for _, bound in steps],
} | ({"on_validation_images": {"before": first, "after": last}} if images else {})))
"""


def measure(
    num_steps: int,
    memory: str,
    batch: int,
    count: int = 2,
    threads: int = 2,
    compile: bool = False,
    learning_rate: float = 1e-4,
    images: int = 0,
    log: int = subprocess.DEVNULL,
) -> dict[str, Any]:
    """Peak memory in bytes beyond the loaded model and framework, and seconds per training step.

    `bounds` has the mean ELBO of the batch at each of the `count` steps. If `images` is not 0,
    `on_validation_images` has the mean ELBO of that many images before and after. `log` receives
    one line per step.
    """
    settings = [num_steps, memory, batch, count, threads, compile, learning_rate, images]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(settings)],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        check=True,
    )
    return {"num_steps": num_steps, "memory": memory, "batch": batch, **json.loads(done.stdout)}


def deepest(
    *,
    num_steps: int = 8192,
    batch: int = 16,
    count: int = 100,
    threads: int = 2,
    learning_rate: float = 1e-5,
    out: Path,
) -> None:
    """Train the deepest DRAW, recomputed and compiled, and write the bounds as JSON.

    Args:
        num_steps: steps T of the DRAW.
        batch: images per training step.
        count: number of training steps.
        threads: number of threads of PyTorch.
        learning_rate: learning rate; the canvas is a sum over T steps, so use less for larger T.
        out: JSON file for the numbers.
    """
    log = sys.stderr.fileno()
    found = measure(num_steps, "recompute", batch, count, threads, True, learning_rate, 64, log)
    made = maker(torch.device("cpu")).model_dump() | {"threads": threads}
    facts = {"machine": made, "learning_rate": learning_rate, **found}
    write_atomically(out, json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    tyro.cli(deepest, prog="python -m benchmarks.memory")
