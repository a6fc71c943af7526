"""Peak memory and time of training steps as a function of depth, each in a process of its own.

On Linux, whose kernel can be asked for the peak since a moment.
"""

import json
import subprocess
import sys
from typing import Any

CHILD = """
import json, re, sys, time
from pathlib import Path
import torch
from limner.config import OptimizerConfig
from limner.data import DataConfig, TrainingBatches, load
from limner.models import DRAWConfig, build
from limner.objectives import elbo
from limner.training.optimizer import GuardedStep, build_optimizer

num_steps, memory, batch, count, threads = json.loads(sys.argv[1])
torch.set_num_threads(threads)
torch.manual_seed(0)
dataset = load(DataConfig())
batches = TrainingBatches(dataset, "bernoulli", batch, seed=0)
model = build(DRAWConfig(num_steps=num_steps, attention="filterbank", memory=memory), (1, 28, 28))
model.init_from_images(batches.batch(0, 0)).train()
config = OptimizerConfig()
take = GuardedStep(build_optimizer(model, config), config.clip_norm, torch.device("cpu"))

def step(index):
    x, started = batches.batch(0, index), time.perf_counter()
    bound = elbo(model.infer(x)).mean()
    (-bound).backward()
    take(config.learning_rate * min(1, (index + 1) / config.warmup_steps))
    take.optimizer.zero_grad()
    return time.perf_counter() - started, bound.item()

def resident(kind):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{kind}:\\s+(\\d+) kB", status).group(1))

model.num_steps = 1
step(0)
model.num_steps = num_steps
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
steps = [step(index) for index in range(count)]
print(json.dumps({
    "bytes": resident("VmHWM") - before,
    "seconds": min(seconds for seconds, _ in steps),
    "bounds": [bound for _, bound in steps],
}))
"""


def measure(
    num_steps: int, memory: str, batch: int, count: int = 2, threads: int = 2
) -> dict[str, Any]:
    """Peak memory in bytes over the loaded model and framework, and seconds of a training step."""
    arguments = json.dumps([num_steps, memory, batch, count, threads])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, arguments], capture_output=True, text=True, check=True
    )
    return {"num_steps": num_steps, "memory": memory, "batch": batch, **json.loads(done.stdout)}
