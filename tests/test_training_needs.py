"""Memory and time are announced before they are used."""

import re

import numpy as np
import pytest
import torch

from limner import ConvDRAWConfig, DRAWConfig, InputError, LadderVAEConfig, VAEConfig
from limner.config import RunConfig
from limner.data import DataConfig, Dataset, Images
from limner.models import build, memory
from limner.training import needs, train
from limner.training.trainer import Trainer


@pytest.fixture
def digits(tmp_path):
    return RunConfig(
        model=VAEConfig(hidden_dims=(8,), latent_dim=2),
        data=DataConfig(name="digits"),
        epochs=1,
        device="cpu",
        compile="never",
    )


def free(monkeypatch, count):
    monkeypatch.setattr(needs, "free_memory", lambda device: count)


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(
    digits, tmp_path, monkeypatch
):
    model = build(digits.model, (1, 8, 8))
    weights = 4 * model.num_parameters
    free(monkeypatch, 9 * weights - 1)
    with pytest.raises(InputError, match=r"--data.size 4.*--model.hidden-dims"):
        train(digits, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    free(monkeypatch, 9 * weights + model.stored_bytes(128))
    train(digits, tmp_path / "run")


def test_advice_on_weights_names_a_width_that_the_model_has(digits, tmp_path, monkeypatch):
    free(monkeypatch, 1)
    for model, flag in ((DRAWConfig(), "hidden-dim"), (ConvDRAWConfig(), "hidden-maps")):
        with pytest.raises(InputError, match=rf"--model\.{flag}\)"):
            train(digits.with_(model=model), tmp_path / "run")


def test_activations_that_do_not_fit_name_the_batch(digits, tmp_path, monkeypatch):
    config = digits.with_(
        model=DRAWConfig(num_steps=30, hidden_dim=4, latent_dim=2, memory="store"),
        batch_size=400,
    )
    model = build(config.model, (1, 8, 8))
    free(monkeypatch, 12 * 4 * model.num_parameters + model.stored_bytes(400) // 2)
    with pytest.raises(InputError, match=r"lower --batch-size 400.*--model.memory recompute"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_free_memory_is_what_the_container_has_left(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 100000\n")
    names = ("memory.max", "memory.current")
    limits = tmp_path / names[0], tmp_path / "absent"
    monkeypatch.setattr(memory, "CGROUP_LIMITS", limits)
    monkeypatch.setattr(memory, "CGROUP_USES", (tmp_path / names[1], tmp_path / "absent"))
    assert memory.free_memory(torch.device("cpu")) == 700_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory(torch.device("cpu")) > 2**20


def test_long_trainings_are_announced():
    images = Images(torch.from_numpy(np.zeros((2, 3, 256, 128), np.uint8)))
    dataset = Dataset("large", "none", 0, (3, 256, 128), images, images, images)
    sentence = needs.announcement(4.5, 4_000, dataset) or ""
    assert re.search(r"about 4.5 s, so 4,000 steps take about 5.0 hours", sentence)
    assert "--data.size 64 would take about 12% of that" in sentence
    assert needs.announcement(0.1, 4_000, dataset) is None


def test_a_long_training_says_so_before_its_first_step(digits, tmp_path, monkeypatch, capsys):
    def refuse(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(needs, "LONG", 0.0)
    monkeypatch.setattr(Trainer, "take_step", refuse)
    with pytest.raises(KeyboardInterrupt):
        train(digits, tmp_path / "run")
    assert "so 10 steps take about" in capsys.readouterr().err


def test_the_trial_of_a_step_changes_nothing():
    torch.manual_seed(0)
    config = RunConfig(model=LadderVAEConfig(hidden_dims=(8, 8), latent_dims=(2, 2)), epochs=1)
    model = build(config.model, (1, 4, 4)).train()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    assert needs.seconds_of_step(config, model, 3) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
