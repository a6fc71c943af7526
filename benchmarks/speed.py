"""Training and sampling speed. Variants take turns, so that other load affects all alike."""

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from benchmarks.textbook import TextbookDRAW
from limner.config import OptimizerConfig, RunConfig
from limner.data import DataConfig, TrainingBatches
from limner.data import load as load_data
from limner.models import DRAWConfig, LadderVAEConfig, LatentVariableModel, VAEConfig, build
from limner.objectives import elbo
from limner.progress import Display
from limner.training.interrupts import StopSignals
from limner.training.optimizer import GuardedStep, build_optimizer
from limner.training.processes import Processes
from limner.training.start import initial_model
from limner.training.trainer import Trainer

SHAPE = (1, 28, 28)
RECIPES: dict[str, DRAWConfig | VAEConfig | LadderVAEConfig] = {
    "DRAW, MNIST recipe (T = 64)": DRAWConfig(num_steps=64, attention="filterbank"),
    "DRAW without attention (T = 10)": DRAWConfig(num_steps=10),
    "VAE": VAEConfig(),
    "Ladder VAE": LadderVAEConfig(),
}
Step = Callable[[], object]


def images(batch: int) -> Tensor:
    """Random binary images with about as many ones as binarized digits."""
    return (torch.rand(batch, *SHAPE) < 0.15).float()


def limner_step(model: LatentVariableModel, x: Tensor, precision: str = "float32") -> Step:
    """Forward pass, backward pass, clipping and Adam, as in the training loop."""
    config = OptimizerConfig()
    take = GuardedStep(build_optimizer(model, config), config.clip_norm, x.device)

    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            inference = model(x)
        (-elbo(inference).mean()).backward()
        take(config.learning_rate)
        take.optimizer.zero_grad()

    return step


def textbook_step(config: DRAWConfig, x: Tensor) -> Step:
    """A training step of the textbook model with PyTorch's defaults."""
    model = TextbookDRAW(
        config.num_steps,
        config.attention,
        config.read_size,
        config.write_size,
        config.hidden_dim,
        config.latent_dim,
        SHAPE,
    ).to(x.device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        model(x).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()

    return step


def interleaved(
    steps: dict[str, Step], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each step, measured `rounds` times in turn after one warm-up step each."""
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            _wait(device)
            started = perf_counter()
            step()
            _wait(device)
            seconds[name].append(perf_counter() - started)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def variants(name: str, batch: int, device: torch.device, compile: bool) -> dict[str, Step]:
    """Training steps of a recipe, textbook (for DRAW), eager and compiled, and sampling."""
    config, x = RECIPES[name], images(batch).to(device)
    steps: dict[str, Step] = {}
    if isinstance(config, DRAWConfig):
        steps["textbook"] = textbook_step(config, x)
    for mode in ("eager", "compiled") if compile else ("eager",):
        torch.manual_seed(0)
        model = build(config, SHAPE).init_from_images(x.cpu()).to(device).train()
        if mode == "compiled":
            model.compile_parts()
        steps[mode] = limner_step(model, x)
    if device.type == "cuda":
        model = build(config, SHAPE).init_from_images(x.cpu()).to(device).train()
        model.compile_parts()
        steps["compiled, bfloat16"] = limner_step(model, x, "bfloat16")
    sampler = build(config, SHAPE).to(device).eval()
    steps["sampling"] = torch.no_grad()(lambda: sampler.sample(batch))
    return steps


def summary(seconds: list[float], batch: int) -> dict[str, float]:
    """Images per second: the median, and the quartiles as low and high."""
    rates = sorted(batch / second for second in seconds)
    quarter = len(rates) // 4
    return {
        "images_per_second": median(rates),
        "low": rates[quarter],
        "high": rates[-1 - quarter],
        "milliseconds": 1e3 * median(seconds),
    }


def data_path(batch: int, rounds: int = 50) -> dict[str, float]:
    """Seconds to prepare a training batch of digits: median and quartiles over epochs."""
    batches = TrainingBatches(load_data(DataConfig()), "bernoulli", batch, seed=0)
    seconds = []
    for epoch in range(rounds):
        started = perf_counter()
        for index in range(batches.steps_per_epoch):
            batches.batch(epoch, index)
        seconds.append((perf_counter() - started) / batches.steps_per_epoch)
    seconds.sort()
    return {"median": median(seconds), "low": seconds[rounds // 4], "high": seconds[-rounds // 4]}


def loop_against_step(kind: str, batch: int, rounds: int = 9, chunk: int = 100) -> dict[str, Any]:
    """Time of bare model steps divided by that of as many steps of the training loop."""
    model = RECIPES[kind]
    config = RunConfig(
        model=model,
        data=DataConfig(),
        epochs=10_000,
        batch_size=batch,
        compile="never",
        device="cpu",
        validate_every=10_000,
    )
    dataset = load_data(config.data)
    group = Processes(torch.device("cpu"))
    trainer = Trainer(config, dataset, group, initial_model(config, dataset))
    trainer.begin()
    x = trainer.batches.batch(0, 0)
    bare = limner_step(trainer.model, x)

    def loop() -> None:
        for _ in range(chunk):
            trainer.advance(Display([]), StopSignals())

    def steps() -> None:
        for _ in range(chunk):
            bare()

    seconds = interleaved({"loop": loop, "bare": steps}, rounds, torch.device("cpu"))
    ratios = [b / a for a, b in zip(seconds["loop"], seconds["bare"], strict=True)]
    ratios.sort()
    return {
        "ratio": median(ratios),
        "low": ratios[len(ratios) // 4],
        "high": ratios[-1 - len(ratios) // 4],
    }
