"""What only a GPU with CUDA can show; skipped without one. `make test-gpu` runs these alone."""

import contextlib
import signal

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import limner
from limner import elbo, importance_weighted_bound
from limner.cli import main
from limner.config import ObjectiveConfig, RunConfig
from limner.data import DataConfig
from limner.data import load as load_data
from limner.errors import Stopped
from limner.evaluation import evaluate_model
from limner.models import DRAWConfig, LadderVAEConfig, VAEConfig, build
from limner.models.draws import Draws
from limner.training import Run, launch
from limner.training.graphs import WARM_UP, on_own_stream
from limner.training.processes import Processes
from limner.training.start import initial_model
from limner.training.trainer import Trainer
from test_device import COMMANDS
from test_training import weights_of
from test_training_graphs import assert_same_steps, steps

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda", 0)
DRAW = DRAWConfig(num_steps=3, hidden_dim=8, latent_dim=3)
ATTENTION = DRAW.with_(attention="filterbank", read_size=2, write_size=3)
MODELS = {
    "vae": VAEConfig(hidden_dims=(16,), latent_dim=4),
    "ladder-vae": LadderVAEConfig(hidden_dims=(16, 8), latent_dims=(4, 2)),
    "draw": DRAW,
    "attention": ATTENTION.with_(prior="learned"),
    "recomputed": ATTENTION.with_(num_steps=5, memory="recompute"),
}
IWAE = {"kind": "iwae", "num_samples": 3}
OBJECTIVES = {
    "elbo": ObjectiveConfig(kl_warmup_epochs=2, free_bits=0.1),
    "iwae": ObjectiveConfig(**IWAE),
    "stl": ObjectiveConfig(gradient="stl"),
    "dreg": ObjectiveConfig(**IWAE, gradient="dreg"),
}


@pytest.fixture(autouse=True)
def on_one_stream():
    """All steps on the stream of the captures, as in a training."""
    with on_own_stream(CUDA):
        yield


def config(model="vae", **settings):
    values = {
        "model": MODELS[model],
        "data": DataConfig(name="digits"),
        "epochs": 2,
        "batch_size": 100,
        "device": str(CUDA),
        "compile": "never",
    }
    return RunConfig(**values | settings)


def trainer_of(config, model=None):
    dataset = load_data(config.data)
    model = initial_model(config, dataset) if model is None else model
    return Trainer(config, dataset, Processes(CUDA), model.to(CUDA))


# Graphs


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        *((model, {"objective": OBJECTIVES["elbo"]}) for model in MODELS),
        *((model, {"objective": OBJECTIVES["iwae"]}) for model in ("ladder-vae", "recomputed")),
        *(("attention", {"objective": OBJECTIVES[name]}) for name in ("stl", "dreg")),
        ("attention", {"precision": "bfloat16"}),
    ],
)
def test_a_graph_takes_the_steps_of_the_loop_to_the_bit(model, settings):
    pairs = [trainer_of(config(model, **settings)) for _ in range(2)]
    pairs[1].use_graphs()
    for trainer in pairs:
        steps(trainer)
    assert_same_steps(*pairs)
    graphs = pairs[1].stepper.graphs
    assert graphs is not None
    assert graphs.gradient.replay is not None
    assert graphs.update.replay is not None


class Reads(nn.Module):
    """A layer that asks the GPU for a number."""

    def forward(self, x):
        return x * (2.0 if x.sum().item() > 1e30 else 1.0)


def test_a_model_that_cannot_be_captured_takes_ordinary_steps(capsys):
    pairs = []
    for _ in range(2):
        trainer = trainer_of(config(compile="auto"))
        trainer.model.encoder.append(Reads())
        pairs.append(trainer)
    before = torch.cuda.get_rng_state(CUDA)
    pairs[1].use_graphs()
    for trainer in pairs:
        steps(trainer)
    assert_same_steps(*pairs)
    assert pairs[1].stepper.graphs is None
    said = capsys.readouterr().err
    assert said.count("This training step cannot be a CUDA graph (") == 1
    assert torch.equal(torch.cuda.get_rng_state(CUDA), before)
    assert torch.randn(3, device=CUDA).isfinite().all()


def test_after_a_failed_capture_another_training_is_a_graph():
    failing = trainer_of(config(compile="auto"))
    failing.model.encoder.append(Reads())
    failing.use_graphs()
    steps(failing, WARM_UP + 1)
    pairs = [trainer_of(config()) for _ in range(2)]
    pairs[1].use_graphs()
    for trainer in pairs:
        steps(trainer, 8)
    assert_same_steps(*pairs)
    assert pairs[1].stepper.graphs is not None


def test_a_training_uses_a_graph_by_default_and_says_so(monkeypatch):
    said = []
    monkeypatch.setattr(launch, "say", said.append)
    auto = limner.fit(MODELS["draw"], "digits", epochs=1, device="cuda")
    never = limner.fit(MODELS["draw"], "digits", epochs=1, device="cuda", compile="never")
    assert "; CUDA graph;" in said[0]
    assert any("; eager;" in sentence for sentence in said)
    for a, b in zip(auto.model.parameters(), never.model.parameters(), strict=True):
        assert torch.equal(a, b)


# Resuming


@pytest.mark.parametrize("mode", ["never", "auto", "always", "cuda-graph"])
@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")  # torch.compile warns of its own doings
def test_a_resumed_run_is_the_same_to_the_bit(mode, tmp_path, monkeypatch):
    settings = config(compile=mode, batch_size=300)
    whole = limner.train(settings, tmp_path / "whole")
    halted = tmp_path / "halted"
    halted_after(WARM_UP + 3, settings, halted, monkeypatch)
    resumed = limner.train(settings, halted, resume=True)
    expected, found = weights_of(whole), weights_of(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def halted_after(count, settings, out, monkeypatch):
    """A training that SIGTERM ends after that many steps."""
    take = Trainer.take_step

    def take_and_stop(trainer, x):
        take(trainer, x)
        if trainer.counters.step == count:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "take_step", take_and_stop)
        with pytest.raises(Stopped):
            limner.train(settings, out)


# Numbers


@pytest.mark.parametrize("model", MODELS)
def test_cpu_and_gpu_agree(model):
    torch.manual_seed(0)
    here = build(MODELS[model], (1, 8, 7)).double()
    with torch.no_grad():
        for parameter in here.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    x = torch.rand(6, 1, 8, 7, dtype=torch.float64).round()
    noise = [torch.randn(6, *shape, dtype=torch.float64) for shape in here.latent_shapes]
    there = build(MODELS[model], (1, 8, 7)).double().to(CUDA)
    there.load_state_dict(here.state_dict())
    expected, found = bound_and_gradient(here, x, noise), bound_and_gradient(there, x, noise)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-9)


def bound_and_gradient(model, x, noise):
    device = next(model.parameters()).device
    draws = Draws(None, None, [each.to(device) for each in noise])
    bounds = elbo(model.train()._run(x.to(device), draws, "closed_form", False))
    gradients = torch.autograd.grad(bounds.sum(), [*model.parameters()], allow_unused=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])
    return bounds.detach().cpu(), flat.cpu()


@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
def test_lower_precisions_train(precision):
    before = torch.backends.cuda.matmul.fp32_precision
    done = limner.fit(MODELS["attention"], "digits", epochs=4, device="cuda", precision=precision)
    bounds = [record["validation"]["elbo"] for record in done.history]
    assert bounds[-1] > bounds[0]
    assert torch.backends.cuda.matmul.fp32_precision == before


@pytest.mark.parametrize("model", ["vae", "ladder-vae", "attention"])
def test_a_bound_does_not_depend_on_the_chunk(model, monkeypatch):
    torch.manual_seed(0)
    trained = build(MODELS[model], (1, 8, 8)).double().eval().to(CUDA)
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64, device=CUDA).round()
    bounds = [
        importance_weighted_bound(trained, x, 10, chunk, torch.Generator().manual_seed(0))
        for chunk in (None, 1, 3)
    ]
    for bound in bounds[1:]:
        assert_close(bound, bounds[0], rtol=1e-12, atol=1e-12)
    evaluation = evaluate_model(trained, x.cpu(), 10)
    for module in ("limner.objectives", "limner.evaluation.units"):
        monkeypatch.setattr(f"{module}.rows_that_fit", lambda model, trace=False: 12)
    again = evaluate_model(trained, x.cpu(), 10)
    for name, values in evaluation.per_image.items():
        assert_close(again.per_image[name], values, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("graphs", [False, True])
def test_recomputed_steps_take_a_fraction_of_the_memory(graphs):
    peaks = {}
    for memory in ("store", "recompute"):
        model = ATTENTION.with_(num_steps=49, hidden_dim=64, memory=memory)
        trainer = trainer_of(config().with_(model=model, batch_size=200))
        if graphs:
            trainer.use_graphs()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        steps(trainer, WARM_UP + 1)
        peaks[memory] = torch.cuda.max_memory_allocated() - held
        del trainer
    assert peaks["recompute"] < peaks["store"] / 2


# Commands


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu") / "run"
    flags = "--data.name digits --epochs 1 --evaluate-samples 2 --model.num-steps 2 --device cuda"
    assert main(["train", "draw", *flags.split(), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("command", [each for each in COMMANDS if each != "report"])
def test_every_command_runs_there(command, run, tmp_path):
    name, *flags = command.split()
    with contextlib.chdir(tmp_path):
        assert main([name, str(run), *flags, "--device", "cuda"]) == 0
    assert Run.open(run).config.device == "cuda"
