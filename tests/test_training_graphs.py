"""The functions that a CUDA graph repeats, run without one, take the same steps as the loop."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

import limner
from limner import InputError
from limner.config import ObjectiveConfig, RunConfig
from limner.data import DataConfig
from limner.data import load as load_data
from limner.models import ConvDRAWConfig, DRAWConfig, LadderVAEConfig, VAEConfig
from limner.training import graphs, launch, train
from limner.training.compilation import wants_compiling, wants_graphs
from limner.training.graphs import WARM_UP, Constants, NotCapturable, Replayed
from limner.training.processes import Processes
from limner.training.start import initial_model
from limner.training.trainer import Trainer
from pretended_graphs import Generator, Pretended, Stream

CPU = torch.device("cpu")
MODELS = {
    "vae": VAEConfig(hidden_dims=(16,), latent_dim=4),
    "ladder-vae": LadderVAEConfig(hidden_dims=(16, 8), latent_dims=(4, 2)),
    "draw": DRAWConfig(num_steps=3, hidden_dim=8, latent_dim=3),
    "recomputed": DRAWConfig(
        num_steps=4, hidden_dim=8, latent_dim=3, attention="filterbank", memory="recompute"
    ),
    "conv-draw": ConvDRAWConfig(num_steps=2, hidden_maps=3, latent_maps=1, tied=False),
}


def trainer_of(name, **settings):
    config = RunConfig(
        model=MODELS[name],
        data=DataConfig(name="digits"),
        objective=ObjectiveConfig(kl_warmup_epochs=2, free_bits=0.1),
        epochs=2,
        batch_size=100,
        device="cpu",
        **settings,
    )
    dataset = load_data(config.data)
    return Trainer(config, dataset, Processes(CPU), initial_model(config, dataset))


def steps(trainer, count=20):
    trainer.begin()
    for _ in range(count):
        counters = trainer.counters
        trainer.take_step(trainer.batches.batch(counters.epoch, counters.index))


def assert_same_steps(trainer, ordinary):
    expected = ordinary.model.state_dict()
    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value, expected[key]), key
    assert torch.equal(trainer.stepper.totals.read(), ordinary.stepper.totals.read())
    assert trainer.counters.step == ordinary.counters.step


@pytest.mark.parametrize("name", MODELS)
def test_replays_take_the_steps_of_the_loop(name):
    ordinary, replayed = trainer_of(name), trainer_of(name)
    replayed.use_graphs()
    for trainer in (ordinary, replayed):
        steps(trainer)
    assert_same_steps(replayed, ordinary)


def test_replays_grow_as_the_loop_does():
    ordinary, replayed = (trainer_of("draw", growth=((0.5, 2),)) for _ in range(2))
    replayed.use_graphs()
    before = replayed.stepper.graphs
    for trainer in (ordinary, replayed):
        steps(trainer, trainer.batches.steps_per_epoch + 2)
    assert_same_steps(replayed, ordinary)
    assert replayed.model.num_steps == 3
    assert replayed.stepper.graphs is not before


@pytest.fixture
def capturing(monkeypatch):
    """Sets a stand-in for the capture, which `Replayed` uses as on a GPU."""

    def use(capture):
        monkeypatch.setattr(graphs, "own_stream", lambda device: nullcontext())
        monkeypatch.setattr(graphs, "beside", lambda stream, run: run())
        monkeypatch.setattr(graphs, "capture", capture)

    return use


def traced(trainer, run):
    """Call `run` as a capture does: Python runs, what existed before does not change."""
    stepper = trainer.stepper
    noise, gradients = stepper.noise.get_state(), stepper._gradients()
    optimizer = [t for state in stepper.update.optimizer.state.values() for t in state.values()]
    counts = [*stepper.update.counts().values(), stepper.totals._sums]
    held = [*trainer.model.parameters(), *trainer.model.buffers(), *gradients, *optimizer, *counts]
    values = [tensor.detach().clone() for tensor in held]
    try:
        run()
    finally:
        with torch.no_grad():
            for tensor, value in zip(held, values, strict=True):
                tensor.copy_(value)
        stepper.noise.set_state(noise)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("fails", ["gradient", "update", "neither"])
def test_a_step_that_cannot_be_captured_is_taken_once(name, fails, capturing, monkeypatch, capsys):
    ordinary, trainer, captured = trainer_of(name), trainer_of(name), []

    def refuse():
        raise NotCapturable("operation not permitted when stream is capturing")

    def capture(stream, run, generators):
        captured.append(run.__name__)
        stepper = trainer.stepper
        at = {"gradient": (stepper.totals, "read"), "update": (stepper.update.optimizer, "step")}
        with monkeypatch.context() as patched:
            if run.__name__ == fails:
                patched.setattr(*at[fails], refuse)
            traced(trainer, run)
        return run

    capturing(capture)
    trainer.use_graphs()
    for one in (ordinary, trainer):
        steps(one, 10)
    assert_same_steps(trainer, ordinary)
    assert captured == (["gradient"] if fails == "gradient" else ["gradient", "update"])
    sentences = capsys.readouterr().err.splitlines()
    assert sentences == [
        "This training step cannot be a CUDA graph (operation not permitted when stream is "
        "capturing): training is slower without."
    ] * (fails != "neither")
    assert (trainer.stepper.graphs is None) == (fails != "neither")


def test_captures_and_replays_in_threads_exclude_each_other(capturing):
    held = []

    def capture(stream, run, generators):
        held.append(graphs._exclusive.locked())
        return run

    capturing(capture)
    replayed = Replayed(lambda: held.append(graphs._exclusive.locked()), CPU)
    for _ in range(WARM_UP + 2):
        replayed()
    assert held == [False] * WARM_UP + [True] * 3
    assert not graphs._exclusive.locked()


@pytest.mark.parametrize("breaks", [0, 1, 2])
def test_a_failed_capture_leaves_streams_allocator_and_generators_as_before(breaks, monkeypatch):
    """Also if nothing breaks but Python, and if the capture that takes the marks off fails too."""
    pretended, noise = Pretended(), Generator()
    monkeypatch.setattr(graphs, "torch", pretended)
    noise.state, pretended.default.state, pretended.breaks = 3, 5, breaks

    def run():
        raise ValueError("operation not permitted\nwhen stream is capturing")

    with pytest.raises(NotCapturable, match=r"^operation not permitted$"):
        graphs.capture(Stream(), run, [noise])
    assert pretended.present == "present"
    assert not pretended.recording
    assert len(pretended.released) == breaks
    for generator, state in ((noise, 3), (pretended.default, 5)):
        assert (generator.marked, generator.state) == (False, state)
    assert pretended.graphs[0].was_reset


def test_a_capture_returns_the_replay(monkeypatch):
    pretended, noise, calls = Pretended(), Generator(), []
    monkeypatch.setattr(graphs, "torch", pretended)
    replay = graphs.capture(Stream(), lambda: calls.append(noise.marked), [noise])
    replay()
    replay()
    assert calls == [True]
    assert [graph.replays for graph in pretended.graphs] == [2]
    assert not noise.marked


def test_a_demanded_graph_that_cannot_be_captured_is_an_error(capturing):
    def capture(stream, run, generators):
        raise NotCapturable("no")

    trainer = trainer_of("vae", compile="cuda-graph")
    capturing(capture)
    trainer.use_graphs()
    steps(trainer, WARM_UP)
    with pytest.raises(InputError, match=r"be a CUDA graph \(no\); pass --compile auto"):
        steps(trainer, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.encoder, "temperature", 2.0),
        lambda model: next(model.parameters()).requires_grad_(False),
        lambda model: setattr(p := next(model.parameters()), "data", p.data.clone()),
    ],
)
def test_a_model_that_changes_is_no_longer_replayed(change, capturing, capsys):
    pairs = [trainer_of("vae"), trainer_of("vae")]
    for trainer in pairs:
        trainer.model.encoder.temperature = 1.0
    capturing(lambda stream, run, generators: run)
    pairs[0].use_graphs()
    for trainer in pairs:
        steps(trainer, 6)
    assert pairs[0].stepper.graphs is not None
    for trainer in pairs:
        change(trainer.model)
        steps(trainer, 2)
    assert pairs[0].stepper.graphs is None
    assert "settings of the model change while it is trained" in capsys.readouterr().err
    assert_same_steps(*pairs)


def test_constants_are_those_of_the_model():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    constants = Constants(model)
    assert not constants.changed()
    model[1].p = float("nan")
    assert constants.changed()
    assert not Constants(model).changed()


@pytest.mark.parametrize(
    ("compile", "device", "count", "wanted"),
    [
        ("auto", "cuda", 1, True),
        ("auto", "cuda", 2, False),
        ("auto", "cpu", 1, False),
        ("auto", "mps", 1, False),
        ("always", "cuda", 1, False),
        ("never", "cuda", 1, False),
        ("cuda-graph", "cuda", 2, True),
    ],
)
def test_when_steps_are_graphs(compile, device, count, wanted):
    trainer = trainer_of("vae", compile=compile)
    config, model = trainer.config, trainer.model
    assert wants_graphs(config, model, torch.device(device), count) == wanted
    model.encoder.append(nn.Dropout(0.1))
    asked = compile == "cuda-graph"
    assert wants_graphs(config, model, torch.device(device), count) == (wanted and asked)


def test_graphs_put_off_compiling():
    trainer = trainer_of("draw")
    config, model, cuda = trainer.config, trainer.model, torch.device("cuda")
    assert wants_compiling(config, model, 101, cuda)
    assert not wants_compiling(config, model, 101, cuda, graphs=True)
    assert wants_compiling(config, model, 601, cuda, graphs=True)


@pytest.mark.parametrize("own", [False, True])
def test_fit_says_whether_it_uses_graphs(own, monkeypatch, capturing, caplog):
    def capture(stream, run, generators):
        captured.append(run.__name__)
        return run

    captured, optimizer = [], torch.optim.SGD if own else None
    capturing(capture)
    wants = wants_graphs
    monkeypatch.setattr(
        launch, "wants_graphs", lambda c, m, d, n: wants(c, m, torch.device("cuda"))
    )
    said = []
    monkeypatch.setattr(launch, "say", said.append)
    make = None if optimizer is None else (lambda parameters: optimizer(parameters, lr=1e-3))
    limner.fit(MODELS["vae"], "digits", epochs=1, batch_size=200, device="cpu", optimizer=make)
    assert captured == ([] if own else ["gradient", "update"])
    assert ("; eager;" if own else "; CUDA graph;") in said[0]


def test_a_function_without_a_gpu_is_simply_called():
    calls = []
    replayed = Replayed(lambda: calls.append(len(calls)), CPU)
    for _ in range(5):
        replayed()
    assert calls == [0, 1, 2, 3, 4]


def test_a_cuda_graph_without_a_gpu_is_refused(tmp_path):
    config = RunConfig(
        model=MODELS["vae"],
        data=DataConfig(name="digits"),
        epochs=1,
        compile="cuda-graph",
        device="cpu",
    )
    with pytest.raises(InputError, match="needs a GPU and the device is cpu; pass --compile auto"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
