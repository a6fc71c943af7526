"""Training does not change the state of the calling process and does not depend on it."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
import torch.distributed as dist

from limner import load
from limner.config import OptimizerConfig, RunConfig
from limner.data import DataConfig
from limner.data import load as load_data
from limner.models import LadderVAEConfig, VAEConfig, build
from limner.objectives import elbo
from limner.storage import load_tensors
from limner.training import train
from limner.training.made import maker
from limner.training.noise import seeded
from limner.training.optimizer import CLEAR_EVERY, GuardedStep, build_optimizer
from limner.training.start import initial_model

LADDER = LadderVAEConfig(hidden_dims=(16, 8), latent_dims=(4, 2))


def config(**changes):
    values = {
        "model": LADDER,
        "data": DataConfig(name="digits"),
        "epochs": 2,
        "batch_size": 200,
        "compile": "never",
        "device": "cpu",
    }
    return RunConfig(**values | changes)


def weights(folder):
    return load_tensors(folder / "model.safetensors")[0]


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def host_state():
    """What a training might change in its process."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
        "filters": list(warnings.filters),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "threads": torch.get_num_threads(),
        "denormals": bool(torch.tensor(2e-38) * 0.1 > 0),
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "environment": dict(os.environ),
        "group": dist.is_initialized(),
    }


@pytest.mark.usefixtures("unchecked")  # beartype draws from Python's random state
def test_a_training_and_loading_leave_the_process_as_it_was(tmp_path):
    train(config(epochs=1), tmp_path / "first")  # imports of other libraries add warning filters
    before = host_state()
    train(config(), tmp_path / "run")
    load(tmp_path / "run")
    assert host_state() == before


def test_two_trainings_at_once_have_the_weights_of_each_alone(tmp_path):
    def both(seed):
        train(config(seed=seed), tmp_path / f"together-{seed}")

    threads = [threading.Thread(target=both, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        torch.rand(100)  # the caller draws as well
    for seed in (0, 1):
        train(config(seed=seed), tmp_path / f"alone-{seed}")
        assert_equal(weights(tmp_path / f"together-{seed}"), weights(tmp_path / f"alone-{seed}"))


def test_the_initial_weights_are_those_of_the_global_seed():
    run, dataset = config(seed=3), load_data(DataConfig(name="digits"))
    found = initial_model(run, dataset).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = build(LADDER, dataset.image_shape).state_dict()
    expected["output.bias"] = found["output.bias"]  # from the images
    assert_equal(found, expected)


def test_seeded_noise_is_that_of_the_global_seed():
    def drawn():
        linear = torch.nn.Linear(3, 2)
        noise = [torch.randn(3), torch.rand(2), torch.randperm(5), torch.empty(4).exponential_()]
        noise += [torch.bernoulli(torch.full((4,), 0.5)), torch.randint(9, (3,))]
        noise += [torch.distributions.Normal(0.0, 1.0).sample((2,))]
        return [*noise, torch.nn.init.orthogonal_(torch.empty(3, 3)), linear.weight.detach()]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected, after = drawn(), torch.get_rng_state()
    before = torch.get_rng_state()
    with seeded(7):
        found = drawn()
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(after, before)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_process_group_of_the_caller_is_used_and_left_alone(tmp_path):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        train(config(epochs=1), tmp_path / "run")
        assert dist.is_initialized()
    finally:
        dist.destroy_process_group()


def test_the_record_of_a_machine_names_its_vector_instructions():
    hardware = maker(torch.device("cpu")).hardware
    assert torch.backends.cpu.get_cpu_capability() in hardware
    assert hardware.endswith(f"{os.cpu_count()} cores")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_training_on_a_gpu_follows_one_on_the_cpu(tmp_path):
    train(config(epochs=1), tmp_path / "cpu")
    run = train(config(epochs=1, device="auto"), tmp_path / "gpu")
    assert run.made()[0].hardware == torch.cuda.get_device_name()


@pytest.mark.parametrize("threads", [1, 2])
def test_no_moment_of_a_dead_unit_stays_denormal(threads):
    """They do without `clear_tiny`: those of the mean after some 800 steps."""
    torch.set_num_threads(threads)
    model = build(VAEConfig(hidden_dims=(16,), latent_dim=2), (1, 8, 8)).train()
    x = torch.rand(4, 1, 8, 8).round()
    step = GuardedStep(build_optimizer(model, OptimizerConfig()), 10.0, torch.device("cpu"))
    seen = []
    for number in range(1, 8 * CLEAR_EVERY + 1):
        if number == 10:
            model.encoder[0].bias.data[::2] = -1e6  # its ReLU is zero from here on
        (-elbo(model.infer(x)).mean()).backward()
        step(1e-3)
        step.optimizer.zero_grad()
        if number % CLEAR_EVERY == 0:
            step.clear_tiny()
        seen.append(denormals(step.optimizer))
    torch.set_num_threads(1)
    assert not any(seen)


def denormals(optimizer):
    """The number of moments that are denormal."""
    smallest = torch.finfo(torch.float32).tiny
    moments = [s[name] for s in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    return sum(int(((m != 0) & (m.abs() < smallest)).sum()) for m in moments)


MEMORY = """
import logging, re, sys
from pathlib import Path

import numpy as np

from limner.config import RunConfig
from limner.data import DataConfig
from limner.models import VAEConfig
from limner.training import train

logging.basicConfig(level=logging.INFO)
folder = Path(sys.argv[1])
images = np.random.default_rng(0).integers(0, 256, (60, 96, 96, 3), dtype=np.uint8)
np.savez(folder / "images.npz", images=images)
config = RunConfig(
    model=VAEConfig(observation="discretized_logistic"),
    data=DataConfig(name=str(folder / "images.npz"), binarization="none"),
    epochs=3, batch_size=16, compile="never", device="cpu", checkpoint_minutes=1e-9,
)
def peak():
    # ru_maxrss would begin with the peak of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = peak()
train(config, folder / "run")
print((peak() - before) / 1024)
"""


@pytest.mark.slow
def test_a_training_needs_the_memory_that_it_announces(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    (announced,) = re.findall(r"about ([\d,]+) MiB", done.stderr)
    announced, used = float(announced.replace(",", "")), float(done.stdout)
    assert used == pytest.approx(announced, rel=0.25)
