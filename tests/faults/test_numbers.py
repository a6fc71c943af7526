"""NaN in images and in gradients, and batches that are too large for the memory."""

from contextlib import contextmanager
from functools import partial
from itertools import count

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook
from victim import MODELS, Limner, Trial, images_in, spare_memory, tiny

from limner.cli import main
from limner.config import OptimizerConfig
from limner.models import DRAWConfig
from limner.training import Run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite_are_refused(value, tmp_path):
    images = np.random.default_rng(0).random((50, 8, 8), dtype=np.float32)
    images[31, 4, 4] = value
    np.savez(tmp_path / "images.npz", images=images)
    trial = Trial(tiny(tmp_path / "images.npz"), tmp_path / "run")
    trial.limner().end().refused("images.npz")
    assert not trial.out.exists()


@contextmanager
def in_training_steps(spoil):
    """Call `spoil(step, output)` on the output of the VAE's first ReLU in each step, from 0."""
    calls = count()

    def hook(module, _, output):
        if isinstance(module, torch.nn.ReLU) and torch.is_grad_enabled() and module.training:
            step, decoder = divmod(next(calls), 2)
            return None if decoder else spoil(step, output)
        return None

    handle = register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def test_steps_without_a_gradient_are_counted_and_reported(tmp_path, capsys):
    trial = Trial(tiny(images_in(tmp_path)), tmp_path / "run")
    with in_training_steps(lambda step, x: x * torch.nan if step % 3 else x):
        assert main(["train", "--config", str(given(trial)), "--out", str(trial.out)]) == 0
    counts = [entry["skipped_steps"] for entry in Run(trial.out, trial.config).metrics()]
    steps = Run(trial.out, trial.config).metrics()[-1]["step"]
    assert f"{counts[-1]} of {steps} steps" in capsys.readouterr().err
    assert counts == [2, 5, 8]
    model = Run.open(trial.out).model()
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_a_gradient_that_stays_away_stops_the_run(tmp_path):
    wild = OptimizerConfig(learning_rate=1e30, warmup_steps=0, clip_norm=1e30)
    trial = Trial(tiny(images_in(tmp_path), epochs=40, optimizer=wild), tmp_path / "run")
    trial.limner().end().refused("not finite", "train anew with a lower --optimizer.learning-rate")


@pytest.mark.parametrize("model", ["vae", "draw", "recompute"])
def test_too_large_a_batch_is_told(model, tmp_path):
    big = np.random.default_rng(0).integers(0, 256, (6000, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "big.npz", images=big)
    many = DRAWConfig(num_steps=40, hidden_dim=64, latent_dim=8, memory="store")
    models = {"vae": MODELS["vae"], "draw": many, "recompute": many.with_(memory="recompute")}
    config = tiny(tmp_path / "big.npz").with_(model=models[model], batch_size=5000, epochs=1)
    trial = Trial(config, tmp_path / "run")
    outcome = trial.limner(partial(spare_memory, 70 << 20)).end()
    outcome.refused("memory", "lower --batch-size 5000")
    assert ("--model.memory recompute" in outcome.told) == (model == "draw")


def test_a_gpu_that_is_full_is_reported(tmp_path, capsys):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    trial = Trial(tiny(images_in(tmp_path)), tmp_path / "run")
    with in_training_steps(full):
        assert main(["train", "--config", str(given(trial)), "--out", str(trial.out)]) == 2
    assert "lower --batch-size 40" in capsys.readouterr().err


def test_other_commands_tell_of_memory_too(tmp_path):
    trial = Trial(tiny(images_in(tmp_path)), tmp_path / "run").finish()
    words = ("sample", trial.out, "--n", 4_000_000)
    Limner(*words, prepare=partial(spare_memory, 200 << 20)).end().refused("fewer images")


def given(trial):
    path = trial.out.with_suffix(".json")
    path.write_text(trial.config.to_json())
    return path
