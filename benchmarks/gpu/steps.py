"""Training steps: their time in every mode, what they launch, and their memory."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from benchmarks.gpu.options import Options
from limner.config import RunConfig
from limner.data.dataset import Dataset
from limner.models import DRAWConfig, ModelConfig
from limner.training.graphs import WARM_UP, on_own_stream
from limner.training.precision import products_in
from limner.training.processes import Processes
from limner.training.start import initial_model
from limner.training.trainer import Trainer

CPU = torch.device("cpu")
PAIRS = (("eager", "graph"), ("compiled", "compiled graph"), ("eager", "compiled"))
FIRST = WARM_UP + 3
"""Steps before the measured ones, at the end of which weights are compared."""

Step = Callable[[], None]


def speed(
    model: ModelConfig,
    dataset: Dataset,
    device: torch.device,
    options: Options,
    precision: str = "float32",
) -> dict[str, Any]:
    """Milliseconds of a step of the training loop in each mode, and what a graph changes."""
    found: dict[str, Any] = {}
    weights: dict[str, torch.Tensor] = {}
    modes = ["eager", "graph"]
    if not options.tiny and precision != "tf32":
        modes += ["compiled graph"] if precision == "bfloat16" else ["compiled", "compiled graph"]
    for mode in modes:
        try:
            found |= _timed(model, dataset, device, options, mode, precision, weights)
        except Exception:
            found[f"{mode}: failed"] = traceback.format_exc()[-1500:]
    if precision == "float32" and device.type == "cuda":
        try:
            found |= _timed(model, dataset, CPU, options, "eager", precision, {}, "CPU, eager")
        except Exception:
            found["CPU, eager: failed"] = traceback.format_exc()[-1500:]
    for a, b in PAIRS:
        if a in weights and b in weights:
            found[f"{b} against {a}, largest difference of weights"] = float(
                (weights[a] - weights[b]).abs().max()
            )
    return found


def _timed(
    model: ModelConfig,
    dataset: Dataset,
    device: torch.device,
    options: Options,
    mode: str,
    precision: str,
    weights: dict[str, torch.Tensor],
    name: str | None = None,
) -> dict[str, Any]:
    """The figures of one mode; its weights after the first steps go to `weights`."""
    name, found = name or mode, dict[str, Any]()
    few = options.tiny or device.type == "cpu"
    with steps(model, dataset, device, options, mode, precision) as (trainer, step):
        started = time.perf_counter()
        for _ in range(1 if name.startswith("CPU") else FIRST):
            step()
        _wait(device)
        found[f"{name}: first steps, s"] = time.perf_counter() - started
        weights[mode] = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
        totals = trainer.stepper.totals.read()
        found[f"{name}: bound"] = float((totals[0] - totals[1:-1].sum()) / totals[-1].clamp(min=1))
        seconds = []
        for _ in range(3 if few else 20):
            started = time.perf_counter()
            step()
            _wait(device)
            seconds.append(time.perf_counter() - started)
        found[f"{name}: ms"] = 1e3 * median(seconds)
        if device.type == "cuda":
            found[f"{name}: launches"] = _launches(step)
    return found


@contextmanager
def steps(
    model: ModelConfig,
    dataset: Dataset,
    device: torch.device,
    options: Options,
    mode: str,
    precision: str = "float32",
) -> Iterator[tuple[Trainer, Step]]:
    """A trainer and its steps, without validation."""
    config = RunConfig(
        model=model,
        data=options.data,
        epochs=10_000,
        batch_size=options.batch,
        precision=precision,  # type: ignore[arg-type]
        compile="cuda-graph" if "graph" in mode else "never",
        device=str(device),
        validate_every=10_000,
    )
    weights = initial_model(config, dataset).to(device)
    with on_own_stream(device), products_in(precision):
        trainer = Trainer(config, dataset, Processes(device), weights)
        if "compiled" in mode:
            trainer.model.compile_parts()
        if "graph" in mode:
            trainer.use_graphs()
        trainer.begin()
        batches = trainer.batches

        def step() -> None:
            counters = trainer.counters
            trainer.take_step(batches.batch(counters.epoch, counters.index))

        yield trainer, step
    del trainer, step, weights
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _launches(step: Step) -> dict[str, int]:
    """Calls of a step that launch kernels or graphs."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        step()
        torch.cuda.synchronize()
    counts = {"kernels": 0, "graphs": 0}
    for event in profiler.key_averages():
        counts["kernels"] += event.count * event.key.startswith(("cudaLaunchK", "cuLaunchK"))
        counts["graphs"] += event.count * event.key.startswith("cudaGraphLaunch")
    return counts


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory(
    depth: int, kept: str, dataset: Dataset, device: torch.device, options: Options
) -> dict[str, Any]:
    """Peak memory and time of a step of DRAW with attention, in a compiled graph."""
    model = options.small(DRAWConfig(num_steps=64, attention="filterbank"))
    model = model.with_(num_steps=depth, memory=kept)
    mode = "graph" if options.tiny else "compiled graph"
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with steps(model, dataset, device, options, mode) as (_, step):
        for _ in range(WARM_UP + 1):
            step()
        _wait(device)
        started = time.perf_counter()
        for _ in range(3):
            step()
        _wait(device)
        found: dict[str, Any] = {"ms": 1e3 * (time.perf_counter() - started) / 3}
        if device.type == "cuda":
            found["reserved MiB"] = torch.cuda.max_memory_reserved(device) / 2**20
            found["allocated MiB"] = torch.cuda.max_memory_allocated(device) / 2**20
    return found
