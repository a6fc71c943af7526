"""Devices: their names, what every command does on one that is pretended, and what it refuses."""

import json

import pytest
import torch

from limner.cli import main
from limner.config import RunConfig
from limner.data import DataConfig
from limner.device import fill_normal, fill_uniform, noise_source, pick_device
from limner.errors import InputError
from limner.evaluation import evaluate_model
from limner.models import DRAWConfig, LadderVAEConfig, VAEConfig, build
from limner.training import Run, train
from limner.training.processes import processes
from pretend import MPS, OnMps, pretended_mps

MODELS = {
    "vae": VAEConfig(hidden_dims=(8,), latent_dim=2),
    "ladder-vae": LadderVAEConfig(hidden_dims=(8, 6), latent_dims=(3, 2)),
    "draw": DRAWConfig(num_steps=3, hidden_dim=6, latent_dim=2, attention="filterbank"),
    "recomputed": DRAWConfig(num_steps=3, hidden_dim=6, latent_dim=2, memory="recompute"),
}
COMMANDS = [
    "evaluate --num-samples 3 --num-images 20",
    "sample --n 4 --draw --npz",
    "reconstruct --n 4",
    "interpolate",
    "interpolate --images 0 1",
    "encode --num-images 20",
    "probe --num-train 300 --num-test 20",
    "animate --grid 1 2 --rows 1",
    "figures --max-images 20 --projection pca --formats png",
    "report",
]


def config(model, **changes):
    values = {
        "model": MODELS[model],
        "data": DataConfig(name="digits"),
        "epochs": 1,
        "batch_size": 300,
        "compile": "never",
        "device": "cpu",
    }
    return RunConfig(**values | changes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpu", "There is no device 'gpu'; use auto, cpu, cuda"),
        ("cuda:-1", "There is no device 'cuda:-1'"),
        ("", "There is no device ''"),
        ("meta", "There is no device 'meta'"),
        ("cuda:99", "There is no device cuda:99 here; use auto"),
        ("mps", "There is no device mps here"),
        ("xpu:1", "There is no device xpu:1 here"),
    ],
)
def test_a_device_that_is_unknown_or_absent_is_refused_in_a_sentence(name, words):
    with pytest.raises(InputError) as refused:
        pick_device(name)
    assert str(refused.value).startswith(words)
    assert str(refused.value).count("\n") == 0


def test_a_device_may_be_given_as_torch_does():
    assert pick_device(torch.device("cpu")) == pick_device("cpu:0") == torch.device("cpu")
    assert (
        RunConfig(model=MODELS["vae"], epochs=1, device=torch.device("cuda:1")).device == "cuda:1"
    )
    with pytest.raises(InputError, match=r"no device 'gpu'; use"):
        config("vae", device="gpu")


def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pretended_mps():
        assert pick_device("auto") == MPS
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    with pretended_mps():
        assert pick_device("auto") == torch.device("cuda", 0)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(InputError, match="cuda:2 here; use auto, cpu, cuda:0 or cuda:1"):
        pick_device("cuda:2")


def test_several_processes_take_a_gpu_each_or_the_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with (
        pretended_mps(),
        pytest.raises(InputError, match="not on mps:0; pass --device cpu"),
        processes("mps", tmp_path),
    ):
        pass
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with (
        pytest.raises(InputError, match="pass --device cuda"),
        processes("cuda:1", tmp_path),
    ):
        pass


def test_noise_of_a_cpu_generator_is_the_same_on_every_device():
    assert noise_source(MPS).device.type == "cpu"
    for fill in (fill_normal, fill_uniform):
        here = fill(torch.empty(3, 4), torch.Generator().manual_seed(1))
        with pretended_mps():
            there = fill(torch.empty(3, 4, device=MPS), torch.Generator().manual_seed(1))
        assert isinstance(there, OnMps)
        assert torch.equal(there.value, here)


def test_the_pretended_device_refuses_what_apples_does():
    """Otherwise the tests below would show nothing."""
    with pretended_mps():
        x = torch.ones(3, device=MPS)
        for wrong in (
            x.double,
            lambda: torch.zeros(3, dtype=torch.float64, device=MPS),
            x.numpy,
        ):
            with pytest.raises(TypeError):
                wrong()
        for wrong in (
            lambda: x + torch.ones(3),
            lambda: x.normal_(generator=torch.Generator()),
            lambda: torch.zeros(3, dtype=torch.int64, device=MPS).random_(),
        ):
            with pytest.raises(AssertionError, match=r"device|mps"):
                wrong()


@pytest.mark.parametrize("model", MODELS)
def test_training_on_a_device_without_float64_takes_the_steps_of_the_cpu(model, tmp_path):
    """Its noise is the CPU's, so weights and figures agree to rounding; it resumes as well."""
    here = train(config(model), tmp_path / "cpu")
    with pretended_mps():
        there = train(config(model, device="mps"), tmp_path / "mps")
        again = train(there.config, there.path, resume=True)
    for name, value in here.model().state_dict().items():
        assert torch.allclose(again.model().state_dict()[name], value, atol=1e-4), name
    for part in ("train", "validation"):
        expected, found = (run.metrics()[-1][part]["elbo"] for run in (here, there))
        assert found == pytest.approx(expected, abs=1e-3)


def test_a_step_without_a_finite_gradient_is_skipped_there_too(tmp_path):
    """Fused Adam, which skips by itself on CPU and CUDA, would not on mps."""
    wild = config("vae", optimizer={"learning_rate": 1e30, "warmup_steps": 0, "clip_norm": 1e30})
    skipped = []
    for device in ("cpu", "mps"):
        with pretended_mps():
            run = train(wild.with_(device=device), tmp_path / device)
        skipped.append(run.metrics()[-1]["skipped_steps"])
        weights = run.model("last", "raw").state_dict().values()
        assert all(weight.isfinite().all() for weight in weights)
    assert skipped[0] == skipped[1] > 0


@pytest.mark.parametrize("model", ["vae", "ladder-vae", "draw"])
def test_evaluation_there_agrees_with_the_cpu(model):
    net = build(MODELS[model], (1, 8, 8)).eval()
    x = (torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    here = evaluate_model(net, x, num_samples=3, per_step=model == "draw")
    with pretended_mps():
        there = evaluate_model(net.to(MPS), x, num_samples=3, per_step=model == "draw")
    assert here.active_units == there.active_units
    for name, values in here.per_image.items():
        assert torch.allclose(there.per_image[name], values, atol=1e-4), name


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    return {name: train(config(name), place / name) for name in ("vae", "ladder-vae", "draw")}


@pytest.mark.slow
def test_every_command_computes_on_the_device(runs, capsys):
    for command in COMMANDS:
        name, *flags = command.split()
        with pretended_mps():
            assert main([name, str(runs["draw"].path), *flags, "--device", "mps"]) == 0, command


def test_every_command_refuses_an_absent_device(runs, tmp_path, capsys):
    path = str(runs["vae"].path)
    commands = [[line.split()[0], path] for line in COMMANDS]
    commands += [["play", path], ["compare", path, "--out", str(tmp_path / "c")]]
    commands += [["train", "vae", "--epochs", "1", "--out", str(tmp_path / "t")]]
    for words in commands:
        assert main([*words, "--device", "cuda:77"]) == 2, words
        assert "There is no device cuda:77 here" in capsys.readouterr().err, words
    assert list(tmp_path.iterdir()) == []


def test_a_config_of_another_machine_is_read(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(config("vae", device="cuda:3").to_json())
    assert RunConfig.read(path).device == "cuda:3"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "gpu"}))
    with pytest.raises(InputError, match="no device 'gpu'"):
        RunConfig.read(path)
    assert Run(tmp_path, config("vae")).config.device == "cpu"
