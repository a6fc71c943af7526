"""Limner on a GPU: equal results, speed of every kind of step, kernels, memory of depth.

    python -m benchmarks.gpu OUT --data.root MNIST      about four minutes on a GPU
    python -m benchmarks.gpu OUT --device cpu --tiny    a rehearsal

Writes OUT/gpu.json. Each part stands alone: a part that fails is reported and the next one runs.
"""

import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro

from limner.config import RunConfig
from limner.data import DataConfig
from limner.data import load as load_data
from limner.data.dataset import Dataset
from limner.models import (
    DRAWConfig,
    LadderVAEConfig,
    LatentVariableModel,
    ModelConfig,
    VAEConfig,
    build,
    recurrent,
)
from limner.models.draws import Draws
from limner.objectives import elbo
from limner.training.processes import Processes
from limner.training.start import initial_model
from limner.training.trainer import Trainer

RECIPES: dict[str, ModelConfig] = {
    "VAE": VAEConfig(),
    "Ladder VAE": LadderVAEConfig(),
    "DRAW (T = 10)": DRAWConfig(num_steps=10),
    "DRAW with attention (T = 16)": DRAWConfig(
        num_steps=16,
        attention="filterbank",
        read_size=5,
        write_size=5,
        latent_dim=50,
        prior="learned",
    ),
    "DRAW with attention (T = 64)": DRAWConfig(num_steps=64, attention="filterbank"),
}
MODES = ("eager", "compiled", "graph", "compiled graph")


@dataclass
class Options:
    out: tyro.conf.Positional[Path]
    data: DataConfig
    device: str = "cuda"
    tiny: bool = False
    """few steps of small models"""
    batch: int = 128
    only: str = ""
    """only parts whose names start with this"""
    minutes: float = 4.0
    """No further part starts after this time."""


def main() -> None:
    options = tyro.cli(Options, default=Options(Path("gpu"), DataConfig(name="mnist")))
    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(options.device)
    torch.backends.cuda.matmul.allow_tf32 = False
    dataset = load_data(options.data)
    recipes = {
        name: model.with_(num_steps=3) if options.tiny and hasattr(model, "num_steps") else model
        for name, model in RECIPES.items()
    }
    results: dict[str, Any] = {"device": _about(device), "started": time.time()}
    ends = time.monotonic() + 60 * options.minutes
    parts: list[tuple[str, Callable[[], Any]]] = []
    for name, model in recipes.items():
        parts.append((f"equal: {name}", lambda m=model: equal(m, dataset, device)))
    for name in reversed(recipes):
        model = recipes[name]
        parts.append((f"speed: {name}", lambda m=model: speed(m, dataset, device, options)))
    parts.append(("memory", lambda: memory(dataset, device, options)))
    for name, model in recipes.items():
        parts.append(
            (f"bfloat16: {name}", lambda m=model: speed(m, dataset, device, options, "bfloat16"))
        )
    for name, part in parts:
        if not name.startswith(options.only):
            continue
        if time.monotonic() > ends:
            print(f"{name}: no time left", flush=True)
            continue
        started = time.monotonic()
        try:
            results[name] = part()
        except Exception:
            results[name] = {"failed": traceback.format_exc()[-3000:]}
        seconds = time.monotonic() - started
        print(f"{name} ({seconds:.1f} s): {json.dumps(results[name])[:3000]}", flush=True)
        (options.out / "gpu.json").write_text(json.dumps(results, indent=1))


def _about(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"name": "cpu", "torch": torch.__version__}
    found = torch.cuda.get_device_properties(device)
    return {"name": found.name, "memory": found.total_memory, "torch": torch.__version__}


# Equal results


def equal(config: ModelConfig, dataset: Dataset, device: torch.device) -> dict[str, float]:
    """Relative differences of bounds and gradients from float64 on the CPU, for the same noise."""
    torch.manual_seed(0)
    x = (dataset.train.levels[:32] > 127).double()
    reference = build(config, dataset.image_shape).double()
    reference.init_from_images(x)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    noise = [torch.randn(len(x), *shape).double() for shape in reference.latent_shapes]
    expected = _bound_and_gradient(reference, x, noise)
    found = {}
    for where in {torch.device("cpu"), device}:
        for dtype in (torch.float32, torch.float64):
            model = build(config, dataset.image_shape).to(where, dtype)
            model.load_state_dict(reference.state_dict())
            given = [each.to(where, dtype) for each in noise]
            result = _bound_and_gradient(model, x.to(where, dtype), given)
            for what, a, b in zip(("bound", "gradient"), result, expected, strict=True):
                key = f"{where.type} {str(dtype)[6:]} {what}"
                found[key] = ((a - b).norm() / b.norm()).item()
    return found


def _bound_and_gradient(
    model: LatentVariableModel, x: torch.Tensor, noise: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    model.train()
    bounds = elbo(model._run(x, Draws(None, None, noise), "closed_form", False))
    gradients = torch.autograd.grad(bounds.mean(), list(model.parameters()), allow_unused=True)
    flat = torch.cat([g.flatten() for g in gradients if g is not None])
    return bounds.detach().double().cpu(), flat.double().cpu()


# Speed


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
    count = 3 if options.tiny else 20
    for mode in MODES:
        if "compiled" in mode and options.tiny and device.type == "cpu":
            continue
        if mode == "compiled" and precision == "bfloat16":
            continue
        try:
            with steps(model, dataset, device, options, mode, precision) as (trainer, step):
                started = time.perf_counter()
                for _ in range(6):
                    step()
                _wait(device)
                found[f"{mode}: first 6 steps, s"] = time.perf_counter() - started
                weights[mode] = _flat(trainer)
                seconds = []
                for _ in range(count):
                    started = time.perf_counter()
                    step()
                    _wait(device)
                    seconds.append(time.perf_counter() - started)
                found[f"{mode}: ms"] = 1e3 * median(seconds)
                if device.type == "cuda" and mode in ("eager", "compiled"):
                    found[f"{mode}: kernels"] = _kernels(step)
                found[f"{mode}: bound"] = float(trainer.stepper.totals.read()[0]) / max(
                    1.0, float(trainer.stepper.totals.read()[-1])
                )
        except Exception:
            found[f"{mode}: failed"] = traceback.format_exc()[-1500:]
    pairs = (("eager", "graph"), ("compiled", "compiled graph"), ("eager", "compiled"))
    for a, b in pairs:
        if a in weights and b in weights:
            found[f"{b} against {a}, largest difference of weights"] = float(
                (weights[a] - weights[b]).abs().max()
            )
    if device.type == "cuda" and isinstance(model, DRAWConfig):
        found |= _gathered(model, dataset, device, options, precision)
    return found


def _gathered(
    model: ModelConfig, dataset: Dataset, device: torch.device, options: Options, precision: str
) -> dict[str, Any]:
    """The same with weight gradients summed over steps."""
    found: dict[str, Any] = {}
    before = recurrent._gathering_pays
    recurrent._gathering_pays = lambda x: torch.is_grad_enabled()
    try:
        for mode in ("eager", "graph"):
            try:
                with steps(model, dataset, device, options, mode, precision) as (_, step):
                    for _ in range(6):
                        step()
                    seconds = []
                    for _ in range(20):
                        _wait(device)
                        started = time.perf_counter()
                        step()
                        _wait(device)
                        seconds.append(time.perf_counter() - started)
                    found[f"gathered {mode}: ms"] = 1e3 * median(seconds)
            except Exception:
                found[f"gathered {mode}: failed"] = traceback.format_exc()[-1500:]
    finally:
        recurrent._gathering_pays = before
    return found


@contextmanager
def steps(
    model: ModelConfig,
    dataset: Dataset,
    device: torch.device,
    options: Options,
    mode: str,
    precision: str = "float32",
) -> Iterator[tuple[Trainer, Callable[[], None]]]:
    """A trainer and its steps, without validation."""
    config = RunConfig(
        model=model,
        data=options.data,
        epochs=10_000,
        batch_size=options.batch,
        precision=precision,  # type: ignore[arg-type]
        compile="cuda-graph" if "graph" in mode else "never",
        device="cuda" if device.type == "cuda" else "cpu",
        validate_every=10_000,
    )
    weights = initial_model(config, dataset).to(device)
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
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _kernels(step: Callable[[], None]) -> int:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        step()
        torch.cuda.synchronize()
    return sum(
        event.count
        for event in profiler.key_averages()
        if event.key.startswith(("cudaLaunchKernel", "cuLaunchKernel"))
    )


def _flat(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# Memory


def memory(dataset: Dataset, device: torch.device, options: Options) -> dict[str, Any]:
    """Peak memory and time of a step over depth, stored and recomputed."""
    if device.type != "cuda":
        return {}
    found: dict[str, Any] = {}
    for depth in (64, 1024):
        for kept in ("store", "recompute"):
            model = DRAWConfig(num_steps=depth, attention="filterbank", memory=kept)
            for mode in ("compiled graph",):
                name = f"T = {depth}, {kept}, {mode}"
                try:
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                    with steps(model, dataset, device, options, mode) as (_, step):
                        for _ in range(5 if "graph" in mode else 2):
                            step()
                        _wait(device)
                        started = time.perf_counter()
                        for _ in range(3):
                            step()
                        _wait(device)
                        found[name] = {
                            "ms": 1e3 * (time.perf_counter() - started) / 3,
                            "peak MiB": torch.cuda.max_memory_reserved() / 2**20,
                        }
                except Exception:
                    found[name] = traceback.format_exc()[-800:]
                print(name, found[name], flush=True)
    return found


if __name__ == "__main__":
    main()
