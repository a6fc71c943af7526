"""Training: resumed equals uninterrupted to the bit, schedules, skipped steps, run folders."""

import json
import math
import pickle
import re
import shutil
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from limner import InputError, load
from limner.config import ObjectiveConfig, OptimizerConfig, RunConfig
from limner.data import DataConfig, TrainingBatches, frozen
from limner.data import load as load_data
from limner.errors import Stopped
from limner.models import ConvDRAWConfig, DRAWConfig, LadderVAEConfig, VAEConfig, build
from limner.objectives import elbo
from limner.storage import load_tensors, save_tensors
from limner.training import Run, train
from limner.training.averaging import averaged, due, recompute_batch_norm
from limner.training.compilation import wants_compiling
from limner.training.divergence import remarks, uniform_bound
from limner.training.interrupts import StopSignals
from limner.training.optimizer import GuardedStep, build_optimizer, kl_weight, learning_rate
from limner.training.start import ancestry, seen_before
from limner.training.state import Totals

MODELS = {
    "vae": VAEConfig(hidden_dims=(16,), latent_dim=4),
    "ladder-vae": LadderVAEConfig(hidden_dims=(16, 8), latent_dims=(4, 2)),
    "draw": DRAWConfig(num_steps=3, hidden_dim=8, latent_dim=3),
    "attention": DRAWConfig(num_steps=3, hidden_dim=8, latent_dim=3, attention="filterbank"),
}


def config(model="vae", **changes):
    values = {
        "model": MODELS[model] if isinstance(model, str) else model,
        "data": DataConfig(name="digits"),
        "epochs": 2,
        "batch_size": 400,
        "ema_decay": 0.9,
        "compile": "never",
        "device": "cpu",
    }
    return RunConfig(**values | changes)


@contextmanager
def before_each_step(action):
    """Call `action(step)` before each step of any optimizer, from 1."""
    steps = iter(range(1, 10**9))
    handle = register_optimizer_step_pre_hook(lambda *_: action(next(steps)))
    try:
        yield
    finally:
        handle.remove()


def stopped_after(steps, *arguments, **options):
    """`train`, with a signal before that many steps are done."""

    def stop(step):
        if step == steps:
            signal.raise_signal(signal.SIGTERM)

    with before_each_step(stop), pytest.raises(Stopped) as stopped:
        train(*arguments, **options)
    assert stopped.value.status == 128 + signal.SIGTERM


def weights_of(run):
    tensors = {}
    for name in ("best", "last"):
        found, _ = load_tensors(run.path / "checkpoints" / f"{name}.safetensors")
        tensors |= {f"{name}.{key}": value for key, value in found.items()}
    return tensors


@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_ends_with_the_weights_of_one_never_stopped(model, tmp_path):
    whole = train(config(model), tmp_path / "whole")
    out = tmp_path / "stopped"
    for steps, resume in ((1, False), (2, True)):
        stopped_after(steps, config(model), out, resume=resume)
    resumed = train(config(model), out, resume=True)
    expected, found = weights_of(whole), weights_of(resumed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    timing = {"seconds", "images_per_second"}
    for entry, other in zip(whole.metrics(), resumed.metrics(), strict=True):
        assert {k: v for k, v in entry.items() if k not in timing} == {
            k: v for k, v in other.items() if k not in timing
        }


@pytest.mark.parametrize(
    ("kind", "short", "long"),
    [
        ("vae", "eager", "eager"),
        ("ladder-vae", "eager", "compiled"),
        ("draw", "eager", "compiled"),
        ("attention", "eager", "compiled"),
    ],
)
def test_auto_compiles_if_the_budget_makes_up_for_the_compiler(kind, short, long):
    def mode(**budget):
        wanted = wants_compiling(
            config(kind, compile="auto", **budget),
            build(MODELS[kind], (1, 4, 4)),
            100,
            torch.device("cuda"),  # needs no C++ compiler
        )
        return "compiled" if wanted else "eager"

    assert mode(epochs=1) == short
    assert mode(epochs=1000) == mode(epochs=None, minutes=5.0) == long


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")  # torch.compile warns of its own doings
def test_a_resumed_run_is_the_same_when_compiled(tmp_path):
    compiled = config("attention", compile="always")
    whole = train(compiled, tmp_path / "whole")
    stopped_after(4, compiled, tmp_path / "stopped")
    resumed = train(compiled, tmp_path / "stopped", resume=True)
    expected, found = weights_of(whole), weights_of(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(config("draw", epochs=1), tmp_path_factory.mktemp("start") / "trained")


def started(run, model="draw", **changes):
    return config(model, start_from=str(run.path), **changes)


def test_a_training_starts_from_the_best_averaged_weights_of_another(trained, tmp_path):
    still = OptimizerConfig(learning_rate=1e-30)
    run = train(started(trained, optimizer=still, epochs=1), tmp_path / "run")
    before, after = load(trained.path).state_dict(), load(run.path).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_steps_share_their_weights_so_that_deeper_ones_start_from_fewer(trained, tmp_path):
    deeper = MODELS["draw"].with_(num_steps=5)
    run = train(started(trained, model=deeper, epochs=1), tmp_path / "run")
    assert load(run.path).num_groups == 5
    drawn = train(config(deeper, epochs=1), tmp_path / "drawn")
    bounds = [one.metrics()[0]["validation"]["elbo"] for one in (drawn, run)]
    assert bounds[1] > bounds[0]


def test_resuming_does_not_need_what_a_run_started_from(trained, tmp_path):
    start = Run.create(tmp_path / "start", trained.config)
    shutil.copytree(trained.path, start.path, dirs_exist_ok=True)
    whole = train(started(start), tmp_path / "whole")
    stopped_after(2, started(start), tmp_path / "stopped")
    shutil.rmtree(start.path)
    resumed = train(started(start), tmp_path / "stopped", resume=True)
    expected, found = weights_of(whole), weights_of(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ("nowhere", "There is no run folder and no trained model nowhere"),
        ("mnist-draw", "The weights of mnist-draw do not fit: --model.hidden-dim differs"),
        ("mnist-iwae-vae", "The weights of mnist-iwae-vae do not fit: --model.kind differs"),
        ("OUT", "cannot start from itself"),
        ("OUT/../run", "cannot start from itself"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(start, says, tmp_path):
    out = tmp_path / "run"
    start = start.replace("OUT", str(out))
    with pytest.raises(InputError, match=says):
        train(config("draw", start_from=start), out)
    assert not out.exists()


def test_weights_of_the_same_shapes_with_another_meaning_are_refused(tmp_path):
    run = train(config("vae", epochs=1), tmp_path / "run")
    other = MODELS["vae"].with_(activation="tanh")
    with pytest.raises(InputError, match=r"--model.activation differs"):
        train(config(other, start_from=str(run.path)), tmp_path / "other")


def test_a_folder_of_somebody_else_is_not_overwritten(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["Other"]}')
    (tmp_path / "weights.bin").write_bytes(b"theirs")
    with pytest.raises(InputError, match="is not a run"):
        train(config(), tmp_path, overwrite=True)
    assert (tmp_path / "weights.bin").read_bytes() == b"theirs"


def test_gradients_that_keep_every_step_refuse_to_recompute():
    model = MODELS["draw"].with_(memory="recompute")
    with pytest.raises(InputError, match="needs every step kept"):
        config(model, objective=ObjectiveConfig(gradient="stl"))


def test_what_a_model_started_from_counts_as_its_training_images(trained, tmp_path):
    def run(name, data, start_from=None):
        own = trained.config.with_(data=DataConfig(name=data), start_from=start_from)
        return Run.create(tmp_path / name, own)

    first = run("first", "mnist")
    second = run("second", "mnist-5k", str(first.path))
    third = run("third", "digits", str(second.path))
    assert [one.config.data.name for one in ancestry(third)] == ["digits", "mnist-5k", "mnist"]
    for one in (second, third):
        assert "training images of mnist" in (seen_before(one, DataConfig()) or "")
    shutil.rmtree(second.path)
    assert [one.config.data.name for one in ancestry(third)] == ["digits"]
    assert seen_before(first, DataConfig(name="mnist")) is None
    assert seen_before(third, DataConfig(name="digits")) is None
    back = run("second", "mnist-5k", str(third.path))
    assert [one.config.data.name for one in ancestry(back)] == ["mnist-5k", "digits"]


def test_another_split_of_the_same_images_counts_too(trained, tmp_path):
    own = DataConfig(name="my-images", draw_seed=1)
    first = Run.create(tmp_path / "first", trained.config.with_(data=own))
    started = trained.config.with_(data=own.with_(draw_seed=2), start_from=str(first.path))
    second = Run.create(tmp_path / "second", started)
    assert "with draw seed 1" in (seen_before(second, second.data) or "")
    assert seen_before(first, first.data) is None


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    stopped_after(4, config(), tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    written = metrics.read_text()
    metrics.write_text(written + '{"epoch": 99}\n{"torn')
    run = train(config(), tmp_path / "run", resume=True)
    assert [entry["epoch"] for entry in run.metrics()] == [1.0, 2.0]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path):
    out = tmp_path / "run"
    whole = train(config(), tmp_path / "whole")
    for resume in (False, True):
        stopped_after(2, config(), out, resume=resume)
    newest, before = Run.open(out).training_states
    newest.write_bytes(newest.read_bytes()[:-7])
    assert before.is_file()
    resumed = train(config(), out, resume=True)
    expected, found = weights_of(whole), weights_of(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_training_improves_the_bound_and_loads(tmp_path):
    quick = OptimizerConfig(learning_rate=1e-2, warmup_steps=10)
    crisp = DataConfig(name="digits", binarization="threshold")
    run = train(config(epochs=15, batch_size=64, optimizer=quick, data=crisp), tmp_path / "run")
    first, *_, last = run.metrics()
    assert last["validation"]["elbo"] > first["validation"]["elbo"] + 1
    assert last["train"]["kl"] == pytest.approx(sum(last["train"]["kl_per_group"]))
    x = frozen(run.dataset(), "validation", "bernoulli")
    for checkpoint in ("best", "last"):
        for kind in ("ema", "raw"):
            model = load(run.path, checkpoint, kind)
            assert not model.training
            bound = elbo(model.infer(x, torch.Generator().manual_seed(0))).mean().item()
            assert bound == pytest.approx(last["validation"]["elbo"], abs=1.5)
    exported = load_tensors(run.path / "model.safetensors")[0]
    best = load(run.path).state_dict()
    assert all(torch.equal(exported[f"ema.{name}"], value) for name, value in best.items())


def test_a_config_alone_repeats_a_run(tmp_path):
    run = train(config("draw"), tmp_path / "a")
    again = train(RunConfig.read(run.path / "config.json"), tmp_path / "b")
    first, second = weights_of(run), weights_of(again)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_step_without_a_finite_gradient_changes_nothing():
    model = build(MODELS["vae"], (1, 8, 8))
    step = GuardedStep(build_optimizer(model, OptimizerConfig()), 10.0, torch.device("cpu"))
    x = torch.rand(8, 1, 8, 8).round()

    def take(scale):
        step.optimizer.zero_grad()
        (scale * elbo(model.infer(x)).mean()).backward()
        step(1e-3)

    take(-1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    moments = [{k: v.clone() for k, v in state.items()} for state in step.optimizer.state.values()]
    take(float("nan"))
    take(float("inf"))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for state, kept in zip(step.optimizer.state.values(), moments, strict=True):
        assert all(torch.equal(state[key], kept[key]) for key in kept)
    assert (step.skipped, step.streak) == (2, 2)
    take(-1.0)
    assert (step.skipped, step.streak) == (2, 0)
    assert not torch.equal(before["output.weight"], model.output.weight)


@pytest.mark.parametrize("own", [False, True])
def test_a_spike_is_skipped_and_a_norm_that_stays_large_trains(own):
    linear = torch.nn.Linear(3, 2)
    kind = (
        torch.optim.SGD(linear.parameters()) if own else build_optimizer(linear, OptimizerConfig())
    )
    step = GuardedStep(kind, 10.0, torch.device("cpu"))

    def moves(size):
        before = linear.weight.detach().clone()
        for parameter in linear.parameters():
            parameter.grad = torch.full_like(parameter, size)
        step(1e-3)
        return not torch.equal(linear.weight, before)

    assert all(moves(size) for size in (1.0, 3.0, 0.1, 20.0, 1e-3, 1.0))
    moves(0.0)
    assert not moves(1e6)
    assert moves(1.0)
    assert (step.skipped, step.streak) == (1, 0)
    taken = [moves(1e9) for _ in range(60)]
    assert not taken[0]
    assert all(taken[-20:])


@pytest.mark.parametrize("kind", ["adam", "adamw"])
@pytest.mark.parametrize("size", [1e-3, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipping_inside_the_step_is_that_of_torch(kind, size, dtype):
    """Epsilon is large, so that the scale of a gradient shows in what Adam makes of it."""
    config = OptimizerConfig(name=kind, weight_decay=0.1 * (kind == "adamw"), epsilon=1.0)
    ours, plain = [torch.nn.Linear(3, 2, dtype=dtype) for _ in range(2)]
    plain.load_state_dict(ours.state_dict())
    step = GuardedStep(build_optimizer(ours, config), 2.0, torch.device("cpu"))
    optimizer = build_optimizer(plain, config)
    for _ in range(3):
        x = size * torch.randn(5, 3, dtype=dtype)
        for model in (ours, plain):
            model.zero_grad()
            model(x).square().mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 2.0)
        optimizer.step()
        torch.testing.assert_close(step(config.learning_rate), norm, rtol=1e-5, atol=0)
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("read_every", [1, 3, 1000])
def test_totals_are_sums_over_finite_batches_whenever_they_are_read(read_every):
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(4, generator=generator), torch.rand(4, 2, generator=generator))
        for _ in range(50)
    ]
    batches[7][0][1] = torch.nan
    totals, expected = Totals(torch.zeros(4).double()), torch.zeros(4).double()
    for index, (log_likelihood, kl) in enumerate(batches):
        totals.add(log_likelihood, kl)
        if index % read_every == 0:
            totals.read()
        if index != 7:
            expected += torch.stack([log_likelihood.sum(), *kl.sum(0), torch.tensor(4.0)])
    assert torch.equal(totals.read(), expected)


def test_the_best_weights_are_chosen_by_the_bound_that_is_trained(tmp_path):
    """A high rate makes both bounds part: the importance-weighted one rises, the ELBO falls."""
    wild = OptimizerConfig(learning_rate=0.15, warmup_steps=0, schedule="constant")
    weighted = ObjectiveConfig(kind="iwae", num_samples=5)
    changes = {"objective": weighted, "optimizer": wild, "ema_decay": 0.0, "epochs": 6}
    run = train(config(**changes), tmp_path / "run")
    figures = [entry["validation"] for entry in run.metrics()]
    best, other = (max(range(6), key=lambda i: figures[i][name]) for name in ("iw_bound", "elbo"))
    assert best != other
    _, document = load_tensors(run.weights("best")[0])
    assert document["epoch"] == best + 1
    assert document["validation_elbo"] == figures[best]["elbo"]


def test_the_importance_weighted_bound_is_measured_where_it_is_trained(tmp_path):
    weighted = ObjectiveConfig(kind="iwae", num_samples=20)
    figures = train(config(objective=weighted, epochs=1), tmp_path / "run").metrics()[-1]
    assert figures["validation"]["iw_bound"] > figures["validation"]["elbo"]


def test_many_bad_steps_in_a_row_stop_the_run(tmp_path):
    wild = OptimizerConfig(learning_rate=1e30, warmup_steps=0, clip_norm=1e30)
    with pytest.raises(InputError, match=r"not finite for .* steps in a row.*learning-rate"):
        train(config(epochs=3, batch_size=20, optimizer=wild), tmp_path / "run")


def test_schedules():
    plain = OptimizerConfig(learning_rate=1.0, warmup_steps=4)
    assert [learning_rate(plain, step, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert learning_rate(plain, 100, 0.5) == pytest.approx(0.5)
    assert learning_rate(plain, 100, 1.0) == pytest.approx(0.0)
    assert learning_rate(plain.with_(schedule="constant"), 100, 1.0) == 1.0
    warmed = config(objective=ObjectiveConfig(kl_warmup_epochs=4, beta=0.5))
    assert [kl_weight(warmed, step, 10) for step in (0, 20, 40, 90)] == [0, 0.25, 0.5, 0.5]
    assert kl_weight(config(), 0, 10) == 1
    own = config(model=ConvDRAWConfig())
    assert [kl_weight(own, step, 10) for step in (0, 200, 400, 900)] == [0, 0.25, 1, 1]
    assert kl_weight(own.with_(start_from="trained"), 0, 10) == 1
    both = own.with_(objective=ObjectiveConfig(kl_warmup_epochs=80))
    assert kl_weight(both, 200, 10) == 0.25 * 0.25


def test_averaged_weights_follow_the_recurrence():
    model = torch.nn.Linear(1, 1, bias=False)
    average = averaged(model, 0.99)
    expected = None
    for n, value in enumerate((1.0, 3.0, -2.0, 5.0)):
        model.weight.data.fill_(value)
        average.update_parameters(model)
        decay = min(0.99**8, (1 + n) / (10 + n))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    assert average.module.weight.item() == pytest.approx(expected)


def test_all_weights_are_averaged_as_each_would_be(generator):
    model = build(MODELS["attention"], (1, 4, 4))
    average = averaged(model, 0.999)
    average.update_parameters(model)
    expected = [parameter.detach().clone() for parameter in model.parameters()]
    for n in range(1, 4):
        with torch.no_grad():
            for mean, parameter in zip(expected, model.parameters(), strict=True):
                parameter.normal_(generator=generator)
                mean.lerp_(parameter, 1 - min(0.999**32, (1 + n) / (10 + n)))
        average.update_parameters(model)
    for mean, found in zip(expected, average.module.parameters(), strict=True):
        assert torch.equal(found, mean)


def test_batch_norm_statistics_are_those_of_the_training_set():
    dataset = load_data(DataConfig(name="digits"))
    batches = TrainingBatches(dataset, "bernoulli", 100, seed=0)
    model = build(MODELS["ladder-vae"], dataset.image_shape)
    state = torch.get_rng_state()
    epoch = [batches.batch(0, i) for i in range(batches.steps_per_epoch)]
    recompute_batch_norm(model, epoch, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    first = model.up[0]
    outputs = torch.stack([first[0](x.flatten(1)).mean(0) for x in epoch])
    torch.testing.assert_close(first[1].running_mean, outputs.mean(0), rtol=1e-4, atol=1e-5)


def test_signals_are_reported_and_remembered_and_handlers_restored(capsys):
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT
        assert "Stopping after this step" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_the_error_of_a_stopped_training_can_be_pickled():
    again = pickle.loads(pickle.dumps(Stopped("Stopped by SIGTERM", signal.SIGTERM)))
    assert (str(again), again.status) == ("Stopped by SIGTERM", 143)


def test_a_run_stopped_after_many_steps_resumes_to_the_same_bits(tmp_path):
    """Moments are searched for tiny numbers by the step, not by the steps since the resume."""
    long = config(epochs=3, batch_size=20)
    whole = train(long, tmp_path / "whole")
    stopped_after(100, long, tmp_path / "stopped")
    resumed = train(long, tmp_path / "stopped", resume=True)
    expected, found = weights_of(whole), weights_of(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_one_image_per_batch_is_refused_if_there_is_batch_norm(tmp_path):
    with pytest.raises(InputError, match="at least two images per batch"):
        train(config("ladder-vae", batch_size=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", ["vae", "ladder-vae"])
def test_two_images_per_batch_train(model, tmp_path):
    tiny = {"name": str(tmp_path / "images.npy")}
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((40, 8, 8), np.float32))
    run = train(config(model, batch_size=2, epochs=1, data=DataConfig(**tiny)), tmp_path / "run")
    assert run.metrics()[-1]["validation"]["elbo"] is not None


def test_divergence_is_reported_with_advice(tmp_path, capsys):
    wild = OptimizerConfig(learning_rate=30.0, warmup_steps=0)
    train(config(optimizer=wild, epochs=5), tmp_path / "wild")
    assert re.search(
        r"The last training -ELBO, [\d,.e+]+ nats per image, is far worse than the 44\.36 .*"
        r"lower --optimizer\.learning-rate",
        capsys.readouterr().err,
    )
    train(config(epochs=1), tmp_path / "calm")
    assert not capsys.readouterr().err


def test_a_model_that_memorises_its_images_is_not_called_divergent(tmp_path):
    run = train(config(epochs=1, optimizer=OptimizerConfig(warmup_steps=1)), tmp_path / "run")
    record = run.metrics()[-1]
    worse = {"elbo": record["validation"]["elbo"] - 100.0}
    last = record | {"epoch": 2.0, "step": 999, "validation": record["validation"] | worse}
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(last) + "\n")
    (sentence,) = remarks(run.config, run.metrics(), load_data(DataConfig(name="digits")))
    assert re.match(r"Validation was best at epoch 1 of 2, .* is 100 higher at the end", sentence)
    spiked = [record | {"skipped_steps": 1}]
    sentence = next(remarks(run.config, spiked, load_data(DataConfig(name="digits"))))
    assert "skipped, because their gradient was not finite or far above the usual one" in sentence
    assert "lower --optimizer.learning-rate" in sentence
    spiked = [record | {"skipped_steps": 1, "step": 1000}]
    assert "so few do no harm" in next(
        remarks(run.config, spiked, load_data(DataConfig(name="digits")))
    )


def test_a_collapsed_model_is_told(tmp_path):
    run = train(config(epochs=1, optimizer=OptimizerConfig(warmup_steps=1)), tmp_path / "run")
    record = run.metrics()[-1]
    silent = record | {"validation": record["validation"] | {"kl": 0.004}}
    (sentence,) = remarks(run.config, [silent], load_data(DataConfig(name="digits")))
    assert sentence.startswith(
        "The KL is 0.00 nats, so the latent variables say nothing of an image"
    )


def test_a_training_within_its_warmup_says_so(tmp_path, capsys):
    train(config(epochs=1, minutes=5.0), tmp_path / "run")
    assert "All 3 steps were within the 200 of warm-up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("observation", "binarization", "bits"),
    [
        ("bernoulli", "dynamic", 1),
        ("discretized_logistic", "none", 8),
        ("discretized_logistic_mixture", "none", 8),
        ("gaussian", "none", 0),
    ],
)
def test_random_guessing_costs_the_bits_of_a_pixel(observation, binarization, bits):
    dataset = load_data(DataConfig(name="digits", binarization=binarization))
    nats = uniform_bound(dataset, observation)
    assert nats == pytest.approx(-64 * bits * math.log(2))


def test_a_gradient_whose_square_overflows_is_clipped():
    linear = torch.nn.Linear(3, 2)
    step = GuardedStep(build_optimizer(linear, OptimizerConfig()), 10.0, torch.device("cpu"))
    before = linear.weight.detach().clone()
    for parameter in linear.parameters():
        parameter.grad = torch.full_like(parameter, 1e25)
    norm = step(1e-3)
    assert norm.item() == pytest.approx(8**0.5 * 1e25)
    assert step.skipped == 0
    assert not torch.equal(linear.weight, before)
    assert step.optimizer.state[linear.weight]["exp_avg"].isfinite().all()


def test_run_folders_are_guarded(tmp_path):
    run = train(config(epochs=1), tmp_path / "run")
    with pytest.raises(InputError, match="--overwrite"):
        train(config(epochs=1), run.path)
    with pytest.raises(InputError, match="another config"):
        train(config(epochs=1, seed=9), run.path, resume=True)
    with run.lock(), pytest.raises(InputError, match="Another training"):
        train(config(epochs=1), run.path, overwrite=True)
    finished = weights_of(run)
    train(config(epochs=1), run.path, resume=True)
    assert all(torch.equal(finished[name], value) for name, value in weights_of(run).items())
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="not a run"):
        train(config(epochs=1), stranger, overwrite=True)
    assert (stranger / "thesis.tex").read_text() == "precious"


def alone(run):
    """The config of a run that has no file of weights, which would know it too."""
    for path in run.rglob("*.safetensors"):
        path.unlink()
    return run / "config.json"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: (path / "config.json").unlink(), "holds no config.json"),
        (lambda path: alone(path).write_text("{"), "is not JSON"),
        (lambda path: alone(path).write_text('{"schema_version": 9}'), "schema version"),
        (lambda path: [f.write_bytes(b"x") for f in path.rglob("*.safetensors")], "is damaged"),
    ],
)
def test_damaged_runs_are_told_in_a_sentence(damage, sentence, tmp_path):
    run = train(config(epochs=1), tmp_path / "run")
    damage(run.path)
    with pytest.raises(InputError, match=sentence):
        load(run.path)
    with pytest.raises(InputError, match="no run folder"):
        load(tmp_path / "nowhere")


def test_files_are_safetensors_as_the_library_reads_them(tmp_path):
    path = tmp_path / "file.safetensors"
    tensors = {
        "flags": torch.tensor([True, False, True]),
        "columns": torch.arange(6.0).view(2, 3).T,
        "double": torch.tensor(0.5, dtype=torch.float64),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "step": torch.tensor(7),
        "empty": torch.empty(0, 4),
    }
    save_tensors(path, tensors, {"a": 1})
    for found in (load_file(path), load_tensors(path)[0]):
        assert found.keys() == tensors.keys()
        for name, value in tensors.items():
            assert torch.equal(found[name], value), name
            assert found[name].dtype == value.dtype
    assert load_tensors(path, "h")[0].keys() == {"half"}


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "file.safetensors"
    save_tensors(path, {"w": torch.arange(6.0).view(2, 3), "empty": torch.empty(0)}, {"a": 1})
    tensors, document = load_tensors(path)
    assert torch.equal(tensors["w"], torch.arange(6.0).view(2, 3))
    assert document == {"a": 1}
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        load_tensors(path)


def test_observations_that_make_no_density_are_refused_before_anything_is_written(tmp_path):
    grey = config(data=DataConfig(name="digits", binarization="none"))
    with pytest.raises(InputError, match="bernoulli"):
        train(grey, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "observation", ["gaussian", "discretized_logistic", "discretized_logistic_mixture"]
)
def test_grey_images_train(observation, tmp_path):
    model = MODELS["draw"].with_(observation=observation)
    grey = config(model, data=DataConfig(name="digits", binarization="none"), epochs=1)
    entry = train(grey, tmp_path / "run").metrics()[-1]
    json.dumps(entry, allow_nan=False)
    assert entry["validation"]["elbo"] is not None


def test_a_short_training_is_averaged_too():
    assert [step for step in range(1, 100) if due(step)] == [1, 2, 4, 8, 16, 32, 64, 96]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own imports
def test_trackers_get_the_figures_of_each_validation(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(config(trackers=("tensorboard",)), tmp_path / "run")
    events = EventAccumulator(str(run.path / "run")).Reload()
    logged = events.Scalars("validation/elbo")
    assert [event.step for event in logged] == [entry["step"] for entry in run.metrics()]
    expected = [entry["validation"]["elbo"] for entry in run.metrics()]
    assert [event.value for event in logged] == pytest.approx(expected)
