"""Peak memory and time of training steps as a function of depth, each in a process of its own."""

import json
import subprocess
import sys
from typing import Any

CHILD = """
import json, re, sys, time
from pathlib import Path
import torch
from limner.models import DRAWConfig, build
from limner.objectives import elbo

num_steps, memory, batch, count, threads = json.loads(sys.argv[1])
torch.set_num_threads(threads)
torch.manual_seed(0)
config = DRAWConfig(num_steps=num_steps, attention="filterbank", memory=memory)
x = (torch.rand(batch, 1, 28, 28) < 0.15).float()
model = build(config, (1, 28, 28)).init_from_images(x)

def step():
    started = time.perf_counter()
    bound = elbo(model.infer(x)).mean()
    (-bound).backward()
    return time.perf_counter() - started, bound.item()

def resident(kind):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{kind}:\\s+(\\d+) kB", status).group(1))

model.num_steps = 1
step()
model.num_steps = num_steps
model.zero_grad()
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
steps = [step() for _ in range(count)]
print(json.dumps({
    "bytes": resident("VmHWM") - before,
    "seconds": min(seconds for seconds, _ in steps),
    "bound": steps[0][1],
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
