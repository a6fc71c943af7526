"""`limner.fit`: training in Python, without a run folder or with one."""

import asyncio
import gc
import inspect
import multiprocessing
import signal
import threading
import weakref
from typing import Any, Literal

import pytest
import torch
from torch import nn

import limner
from limner import data
from limner.cli import main
from limner.commands.evaluate import Options, evaluate_run
from limner.config import ObjectiveConfig, RunConfig
from limner.data import DataConfig, from_arrays
from limner.data import load as load_data
from limner.errors import InputError, Stopped
from limner.models import VAE, DRAWConfig, LadderVAEConfig, ModelConfig, VAEConfig
from limner.objectives import elbo
from limner.training import train
from limner.training.fitting import FitSettings, fit
from limner.training.runs import Run

SMALL = VAEConfig(hidden_dims=(16,), latent_dim=3)
SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 200, "compile": "never", "device": "cpu"}


@pytest.fixture(scope="module")
def digits():
    return load_data(DataConfig(name="digits"))


def new(digits, config=SMALL):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return limner.models.build(config, digits.image_shape)


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_config_is_trained_as_on_the_command_line_and_nothing_is_written(
    digits, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    fitted = fit(SMALL, digits, **SETTINGS, seed=3)
    assert fitted.run is None
    assert list(tmp_path.iterdir()) == []
    config = fit(SMALL, digits, **SETTINGS, seed=3, out="run").run.config
    assert config.seed == 3
    run = train(config, tmp_path / "other")
    for model in (limner.load("run"), limner.load(run.path)):
        assert equal(state_of(fitted.model), state_of(model))
    assert [record["epoch"] for record in fitted.history] == [1.0, 2.0]
    without_time = [
        [{k: v for k, v in record.items() if k not in ("seconds", "images_per_second")}]
        for record in (*fitted.history, *run.metrics())
    ]
    assert without_time[:2] == without_time[2:]


def test_a_model_is_trained_in_place_from_its_present_weights(digits):
    model = new(digits)
    assert model.is_new
    fitted = fit(model, digits, **SETTINGS)
    assert fitted.model is model
    assert not model.training
    trained = state_of(model)
    assert not model.is_new

    def still(parameters):
        return torch.optim.SGD(parameters, lr=0.0)

    fit(model, digits, **SETTINGS, optimizer=still)
    assert equal(state_of(model), trained)


def test_a_new_model_starts_from_the_mean_image_and_a_used_one_does_not(digits):
    def still(parameters):
        return torch.optim.SGD(parameters, lr=0.0)

    model, other = new(digits), new(digits)
    fit(model, digits, **SETTINGS, optimizer=still)
    other.init_from_images(limner.data.frozen(digits, "train", "bernoulli"))
    assert torch.equal(model.output.bias, other.output.bias)
    nn.init.constant_(model.output.bias, 0.5)
    fit(model, digits, **SETTINGS, optimizer=still)
    assert (model.output.bias == 0.5).all()


def test_the_callback_sees_every_validation_and_can_stop(digits):
    seen, states = [], {}

    def callback(state):
        seen.append((state.epoch, state.step, state.validated, state.validation.get("elbo")))
        states[state.step] = state_of(state.model)
        assert state.train["elbo"] < 0
        assert not state.model.training
        if state.epoch == 2:
            state.stop()

    fitted = fit(SMALL, digits, **SETTINGS | {"epochs": 5}, callback=callback, every=4)
    steps = 1297 // 200
    assert [entry[1:3] for entry in seen] == [
        (4, False),
        (steps, True),
        (8, False),
        (2 * steps, True),
    ]
    assert [record["step"] for record in fitted.history] == [steps, 2 * steps]
    assert seen[-1][3] == fitted.history[-1]["validation"]["elbo"]
    best = max(fitted.history, key=lambda record: record["validation"]["elbo"])
    assert equal(state_of(fitted.model), states[best["step"]])
    assert not fitted.stopped


def test_a_callback_changes_neither_weights_nor_the_random_state_of_training(digits):
    def draws(state):
        state.model.sample(3)
        torch.rand(5)
        with torch.no_grad():
            next(state.model.parameters()).zero_()

    plain = fit(SMALL, digits, **SETTINGS)
    assert equal(
        state_of(plain.model), state_of(fit(SMALL, digits, **SETTINGS, callback=draws).model)
    )


@pytest.mark.parametrize("kind", ["instance", "factory"])
def test_ones_own_optimizer(digits, kind):
    """One step of SGD without clipping is the gradient times the rate."""
    model, before = new(digits), new(digits)
    nn.init.constant_(model.output.bias, 0.1)
    before.load_state_dict(model.state_dict())
    given = (
        torch.optim.SGD(model.parameters(), lr=0.25)
        if kind == "instance"
        else lambda parameters: torch.optim.SGD(parameters, lr=0.25)
    )
    fitted = fit(
        model,
        digits,
        epochs=1,
        batch_size=len(digits.train),
        optimizer=given,
        ema_decay=0.0,
        device="cpu",
    )
    assert fitted.history[-1]["learning_rate"] == 0.25
    moved = {k: v - before.state_dict()[k] for k, v in model.state_dict().items()}
    x = limner.data.frozen(digits, "train", "bernoulli")
    (-elbo(before.infer(x, torch.Generator().manual_seed(1))).mean()).backward()
    gradient = {name: p.grad for name, p in before.named_parameters()}
    norm = torch.stack([g.norm() for g in gradient.values()]).norm()
    assert norm < 10
    for name in ("output.weight", "output.bias"):  # other noise and other draws of the pixels
        cosine = nn.functional.cosine_similarity(
            moved[name].flatten(), -gradient[name].flatten(), dim=0
        )
        assert cosine > 0.98, name
        assert moved[name].norm() == pytest.approx(0.25 * float(gradient[name].norm()), rel=0.1)


def test_optimizers_that_cannot_train_are_refused(digits):
    model, other = new(digits), new(digits)
    for given, words in (
        (torch.optim.SGD(other.parameters(), lr=0.1), "not the model's"),
        (torch.optim.LBFGS, "needs a closure"),
        (lambda parameters: 3, "a torch optimizer"),
        (3, "a torch optimizer"),
        ({"lr": 1.0}, "no setting 'lr'"),
    ):
        with pytest.raises(InputError, match=words):
            fit(model, digits, **SETTINGS, optimizer=given)  # type: ignore[arg-type]
    assert model.is_new


def test_an_optimizer_steps_as_before_after_training(digits):
    """Training clips its gradients, and leaves nothing in it."""
    model = new(digits)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    hook = model.output.bias.register_hook(lambda gradient: gradient * 1000)
    fit(model, digits, **SETTINGS, optimizer=optimizer)
    hook.remove()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    optimizer.step()
    assert all((p.grad == 2).all() for p in model.parameters() if p.grad is not None)


def test_an_optimizer_whose_step_takes_no_closure(digits):
    class Plain(torch.optim.Optimizer):
        def __init__(self, parameters):
            super().__init__(parameters, {"lr": 1e-4})

        def step(self):  # type: ignore[override]
            for parameter in self.param_groups[0]["params"]:
                parameter.data.sub_(parameter.grad, alpha=1e-4)

    assert fit(new(digits), digits, **SETTINGS, optimizer=Plain).history[-1]["skipped_steps"] == 0


def test_models_and_callbacks_that_cannot_train_are_refused(digits):
    frozen = new(digits).requires_grad_(False)
    with torch.device("meta"):
        empty = limner.models.build(SMALL, digits.image_shape)
    for model, words in (
        (frozen, "are frozen"),
        (new(digits).double(), r"model\.float\(\)"),
        (empty, "meta device"),
    ):
        with pytest.raises(InputError, match=words):
            fit(model, digits, **SETTINGS)
    with pytest.raises(InputError, match="callback is a function"):
        fit(SMALL, digits, **SETTINGS, callback=3)  # type: ignore[arg-type]


def test_a_model_is_in_one_training_at_a_time(digits):
    model, found = new(digits), []

    def again(state):
        with pytest.raises(InputError, match="in training already") as error:
            fit(model, digits, **SETTINGS)
        found.append(error)

    fit(model, digits, **SETTINGS | {"epochs": 1}, callback=again)
    assert len(found) == 1
    fit(model, digits, **SETTINGS | {"epochs": 1})


def test_a_training_leaves_no_model_in_memory(digits):
    fitted = fit(SMALL, digits, **SETTINGS | {"epochs": 1})
    weights = weakref.ref(next(fitted.model.parameters()))
    del fitted
    gc.collect()
    assert weights() is None


def test_non_finite_gradients_are_skipped_with_ones_own_optimizer(digits):
    class Steep(torch.optim.SGD):
        steps = 0

        def step(self, closure=None):
            self.steps += 1
            return super().step(closure)

    model = new(digits)
    optimizer = Steep(model.parameters(), lr=0.1)
    hook = model.output.bias.register_hook(lambda gradient: gradient * float("nan"))
    fitted = fit(model, digits, epochs=1, batch_size=500, optimizer=optimizer, device="cpu")
    hook.remove()
    assert optimizer.steps == 0
    assert fitted.history[-1]["skipped_steps"] == 2


class OtherConfig(VAEConfig):
    kind: Literal["other-vae"] = "other-vae"


class Other(VAE):
    pass


def test_a_model_that_is_not_registered_needs_no_folder(digits, tmp_path):
    for model in (
        Other(OtherConfig(hidden_dims=(8,), latent_dim=2), digits.image_shape),
        Other(SMALL, digits.image_shape),
    ):
        assert fit(model, digits, **SETTINGS).model is model
        with pytest.raises(InputError, match=r"limner\.register"):
            fit(model, digits, **SETTINGS, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_is_a_normal_run_that_can_be_resumed(digits, tmp_path):
    """Also if it began from a model's own weights and was stopped in its first epoch."""
    model = new(digits)
    fit(model, digits, **SETTINGS | {"epochs": 1})
    copy = new(digits)
    copy.load_state_dict(model.state_dict())

    def interrupt(state):
        if state.step == 2:
            signal.raise_signal(signal.SIGTERM)

    whole = fit(copy, digits, **SETTINGS, out=tmp_path / "whole")
    with pytest.raises(Stopped, match="continue with limner train --resume --out"):
        fit(model, digits, **SETTINGS, out=tmp_path / "run", callback=interrupt, every=1)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(InputError, match="already holds a run; continue it with resume"):
        fit(model, digits, **SETTINGS, out=tmp_path / "run")
    other = new(digits)  # its weights do not matter
    again = fit(other, digits, **SETTINGS, out=tmp_path / "run", resume=True)
    assert equal(state_of(whole.model), state_of(again.model))
    assert len(again.history) == 2
    assert again.run is not None
    assert equal(state_of(limner.load(tmp_path / "run")), state_of(again.model))


def test_images_of_a_run_are_its_own_in_whatever_folder_it_is(digits, tmp_path, monkeypatch):
    """A run of images given in memory has results, also by a relative path and when moved."""
    images = from_arrays(digits.train.levels[:60])
    fit(SMALL, images, **SETTINGS, out=tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    run = Run.open("moved")
    evaluate_run(run, Options(num_samples=1, device="cpu"))
    assert run.results() is not None
    assert len(limner.compare({"moved": "moved"})) == 1


def test_minutes_take_the_place_of_epochs_in_a_resumed_run(digits, tmp_path):
    out = tmp_path / "run"
    fit(SMALL, digits, **SETTINGS | {"epochs": 1}, out=out)

    def stops(state):
        state.stop()

    longer = {**SETTINGS, "epochs": None, "minutes": 60}
    again = fit(SMALL, digits, **longer, out=out, resume=True, callback=stops)
    assert again.run is not None
    assert (again.run.config.epochs, again.run.config.minutes) == (None, 60)
    assert again.history[-1]["epoch"] > 1


def test_interrupt_keeps_the_trained_weights(digits):
    def interrupt(state):
        if state.step == 9:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    model = new(digits)
    fitted = fit(model, digits, **SETTINGS | {"epochs": 50}, callback=interrupt, every=1)
    assert fitted.stopped
    assert fitted.history[-1]["step"] == 9
    assert not model.is_new
    assert signal.getsignal(signal.SIGINT) == before


def test_interrupt_before_a_validation_keeps_batch_norm_statistics_of_the_weights(digits, tmp_path):
    """In a run folder, to which no validation is added, as in memory, where one is made."""

    def interrupt(state):
        if state.step == 5:
            signal.raise_signal(signal.SIGINT)

    config = LadderVAEConfig(hidden_dims=(16, 8), latent_dims=(4, 2))
    one, other = (
        fit(config, digits, **SETTINGS, callback=interrupt, every=1, out=out)
        for out in (None, tmp_path / "run")
    )
    assert one.stopped
    assert other.stopped
    assert equal(state_of(one.model), state_of(other.model))


def test_a_kept_run_is_evaluated_and_repeated_by_commands(digits, tmp_path, monkeypatch):
    """Its images are its own wherever its folder is."""
    images = data.from_arrays(torch.rand(40, 8, 8, generator=torch.Generator().manual_seed(0)))
    fit("vae", images, **SETTINGS | {"epochs": 1}, out=tmp_path / "made")
    run = (tmp_path / "made").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "moved", "--num-samples", "2"]) == 0
    assert (run / "results.json").is_file()
    assert main(["train", "--config", "moved/config.json", "--out", "again"]) == 0
    assert limner.Run.open("again").dataset().train.levels.equal(images.train.levels)


def test_a_training_that_diverged_says_so_in_a_warning(digits, capsys):
    fit(SMALL, digits, **SETTINGS, optimizer={"learning_rate": 1e6})
    assert "diverged; train again with a lower optimizer.learning_rate" in capsys.readouterr().err


def test_an_error_in_a_callback_keeps_the_trained_weights(digits):
    def fails(state):
        if state.epoch == 2:
            raise KeyError("mine")

    model = new(digits)
    with pytest.raises(KeyError, match="mine"):
        fit(model, digits, **SETTINGS | {"epochs": 3}, callback=fails)
    assert not model.is_new
    assert model.training


class DropoutVAE(VAE):
    def __init__(self, config, image_shape):
        super().__init__(config, image_shape)
        self.encoder = nn.Sequential(self.encoder, nn.Dropout(0.5))


@pytest.mark.parametrize("compiled", [True, False])
def test_seeded_noise_leaves_the_global_state_alone(compiled):
    torch.manual_seed(3)
    expected = torch.rand(2)
    state = torch.get_rng_state()
    with limner.training.noise.seeded(3, compiled=compiled):
        found = torch.empty(2).uniform_()
    assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_loading_does_not_import_the_compiler_of_torch():
    """torch wraps a dispatch mode in a function that imports it, unless the mode says not to."""
    assert hasattr(limner.training.noise._BesideCompiled.__torch_dispatch__, "__wrapped__")
    assert not hasattr(limner.training.noise._Redirected.__torch_dispatch__, "__wrapped__")


def test_twice_at_once_in_threads_is_as_each_alone(digits):
    def model(seed):
        with limner.training.noise.seeded(seed):
            return DropoutVAE(SMALL, digits.image_shape)

    def run(seed, model):
        found[seed] = state_of(fit(model, digits, **SETTINGS, seed=seed).model)

    found = {}
    for seed in (0, 1):
        run(seed, model(seed))
    alone, found = found, {}
    threads = [threading.Thread(target=run, args=(seed, model(seed))) for seed in (0, 1)]
    handlers = signal.getsignal(signal.SIGINT)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert signal.getsignal(signal.SIGINT) == handlers
    assert all(equal(alone[seed], found[seed]) for seed in (0, 1))


def test_inside_an_event_loop(digits):
    async def main():
        return fit(SMALL, digits, **SETTINGS), await asyncio.to_thread(
            fit, SMALL, digits, **SETTINGS
        )

    one, other = asyncio.run(main())
    assert equal(state_of(one.model), state_of(other.model))


def in_child(queue):
    digits = load_data(DataConfig(name="digits"))
    queue.put(fit(SMALL, digits, **SETTINGS).history[-1]["validation"]["elbo"])


@pytest.mark.slow
def test_in_a_spawned_process(digits):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(queue,))
    child.start()
    found = queue.get(timeout=120)
    child.join()
    expected = fit(SMALL, digits, **SETTINGS).history[-1]["validation"]["elbo"]
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "mode",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        torch.random.fork_rng,
    ],
)
def test_the_mode_of_the_caller_does_not_matter(digits, mode):
    expected = state_of(fit(SMALL, digits, **SETTINGS).model)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with mode():
        found = fit(SMALL, digits, **SETTINGS).model
    assert equal(state_of(found), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_settings_have_the_names_and_limits_of_the_config():
    explicit = set(inspect.signature(fit).parameters)
    fields = set(RunConfig.model_fields) - {"schema_version", "model", "data"}
    assert set(FitSettings.__annotations__) == fields - explicit


def test_defaults_of_the_process_do_not_matter(digits):
    expected = state_of(fit(new(digits), digits, **SETTINGS).model)
    model = new(digits)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        assert equal(state_of(fit(model, digits, **SETTINGS).model), expected)
        fitted = fit(SMALL, digits, **SETTINGS)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert {p.dtype for p in fitted.model.parameters()} == {torch.float32}
    assert all(p.isfinite().all() for p in fitted.model.parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batchsize": 3}, "no setting 'batchsize'; did you mean batch_size"),
        ({"lr": 3}, "optimizer={"),
        ({"objective": {"kind": "vae"}}, "kind"),
        ({"epochs": 0}, "epochs"),
        ({"minutes": -1.0}, "minutes"),
        ({"resume": True}, "without out"),
        ({"resume": True, "overwrite": True, "out": "run"}, "one of resume and overwrite"),
        ({"trackers": ("tensorboard",)}, "need a run folder"),
        ({"every": 0, "callback": print}, "at least 1"),
        ({"every": 2}, "without a callback"),
        ({"callback": 3}, "callback is a function"),
        ({"optimizer": "adam"}, "optimizer takes settings"),
        ({"compile": "cuda-graph"}, 'pass compile="auto"'),
    ],
)
def test_bad_settings_are_refused_in_a_sentence_without_flags(digits, changes, words):
    with pytest.raises(InputError, match=words) as error:
        fit(SMALL, digits, **SETTINGS | changes)
    assert "--" not in str(error.value)


def test_what_cannot_be_fitted_is_refused(digits):
    for model, words in (
        ("vea", "did you mean vae"),
        (3, "fit takes a model"),
        (limner.VAE, "got the class VAE"),
        (limner.VAE(SMALL, (1, 9, 9)), "image_shape of the images"),
        (limner.VAE(SMALL, (1, 8, 8)).double(), "float32"),
        (limner.load("mnist-iwae-vae"), "image_shape of the images"),
    ):
        with pytest.raises(InputError, match=words):
            fit(model, digits, **SETTINGS)
    with pytest.raises(InputError, match="no dataset"):
        fit(SMALL, "nothing-of-that-name")
    for images in (torch.zeros(9, 1, 8, 8), [1, 2], None):
        with pytest.raises(InputError, match=r"limner\.data\.from_arrays"):
            fit(SMALL, images, **SETTINGS)  # pyright: ignore[reportArgumentType]


def test_names_recipes_and_run_configs(digits):
    assert isinstance(fit("vae", "digits", **SETTINGS).model, limner.VAE)
    config = RunConfig(
        model=LadderVAEConfig(hidden_dims=(16, 8), latent_dims=(4, 2)),
        objective=ObjectiveConfig(kind="iwae", num_samples=2),
        seed=7,
        **SETTINGS,
    )
    fitted = fit(config, digits, objective={"num_samples": 3})
    assert fitted.history[-1]["validation"]["iw_bound"] is not None


def test_the_observation_follows_the_images_unless_it_is_chosen(digits):
    grey = load_data(DataConfig(name="digits", binarization="none"))
    chosen = DRAWConfig(num_steps=2, hidden_dim=8, latent_dim=2)
    assert fit(chosen, grey, **SETTINGS).model.config.observation == "discretized_logistic"
    with pytest.raises(InputError, match="bernoulli"):
        fit(chosen.with_(observation="bernoulli"), grey, **SETTINGS)
    with pytest.raises(InputError, match="bernoulli"):
        fit(limner.DRAW(chosen, grey.image_shape), grey, **SETTINGS)


def test_a_config_class_needs_no_registration_to_be_part_of_a_run_config():
    class Mine(ModelConfig):
        kind: Literal["mine"] = "mine"

    config = RunConfig(model=Mine(), epochs=1)
    with pytest.raises(InputError, match=r"limner\.register with Mine"):
        limner.models.build(config.model, (1, 8, 8))
