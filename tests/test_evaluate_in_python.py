"""`limner.evaluate`: the numbers of `limner evaluate`, for any model on any images."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import limner
from limner import DRAWConfig, InputError, LadderVAEConfig, VAEConfig
from limner.commands.evaluate import Options, evaluate_run
from limner.config import RunConfig
from limner.data import DataConfig, frozen, load
from limner.evaluation import Estimate, evaluate_model, evaluating
from limner.models import build
from limner.training import train

K = 3
DIGITS = DataConfig(name="digits")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = RunConfig(
        model=VAEConfig(hidden_dims=(8,), latent_dim=2),
        data=DIGITS,
        epochs=1,
        compile="never",
        device="cpu",
    )
    return train(config, tmp_path_factory.mktemp("runs") / "vae")


@pytest.fixture(scope="module")
def digits():
    return load(DIGITS)


def ladder():
    torch.manual_seed(0)
    return build(LadderVAEConfig(hidden_dims=(6, 5), latent_dims=(3, 2)), (1, 8, 8))


def test_it_gives_the_results_of_the_command_and_writes_nothing(run, digits, monkeypatch):
    before = sorted(run.path.rglob("*"))
    monkeypatch.chdir(run.path)
    found = limner.evaluate(run, num_samples=K)
    assert sorted(run.path.rglob("*")) == before
    results, _ = evaluate_run(run, Options(num_samples=K, device="cpu"))
    assert json.loads(json.dumps(found.figures())) == {
        name: results[name] for name in found.figures()
    }
    for model, data in ((run.path, None), (run.model(), digits), (run.model(), "digits")):
        again = limner.evaluate(model, data, K)
        assert torch.equal(again.iw_bound.per_image, found.iw_bound.per_image)


def test_estimates_are_means_with_errors_over_images(run, digits):
    found = limner.evaluate(run.model(), digits, K, num_images=20)
    direct = evaluate_model(run.model(), frozen(digits, "test", "bernoulli")[:20], K)
    values = direct.per_image["elbo"].double()
    assert torch.equal(found.elbo.per_image, direct.per_image["elbo"])
    assert found.elbo.mean == pytest.approx(values.mean().item())
    assert found.elbo.stderr == pytest.approx(values.std().item() / math.sqrt(20))
    assert_close(found.kl.per_image, sum(group.per_image for group in found.kl_per_group))
    assert_close(found.reconstruction.per_image - found.kl.per_image, found.elbo.per_image)
    assert_close(found.bits_per_dim.per_image, -values / (64 * math.log(2)))
    bits = -found.iw_bound.mean / (64 * math.log(2))
    assert found.in_bits(found.iw_bound).mean == pytest.approx(bits)
    assert found.elbo_per_step is None
    assert repr(found.elbo) == f"{found.elbo.mean:.2f} ± {found.elbo.stderr:.2f}"
    assert repr(found.elbo) in repr(found)
    assert repr(pickle.loads(pickle.dumps(found))) == repr(found)


def test_a_difference_is_paired():
    values = torch.randn(50, generator=torch.Generator().manual_seed(0)) * 100
    difference = Estimate(values + 1) - Estimate(values)
    assert difference.mean == pytest.approx(1, abs=1e-4)
    assert difference.stderr < 1e-4
    with pytest.raises(InputError, match="no paired difference"):
        Estimate(values) - Estimate(values[:3])


def test_one_image_has_no_error(run, digits):
    found = limner.evaluate(run, digits, 1, num_images=1)
    assert found.elbo.stderr is None
    assert repr(found.elbo).endswith(" ± -")


@pytest.mark.parametrize("training", [True, False])
def test_mode_device_and_random_state_stay(digits, training):
    model = ladder().train(training)
    next(model.children()).train(not training)
    modes = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    found = limner.evaluate(model, digits, K, num_images=60)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert [module.training for module in model.modules()] == modes
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    direct = evaluate_model(model.eval(), frozen(digits, "test", "bernoulli")[:60], K)
    assert torch.equal(found.elbo.per_image, direct.per_image["elbo"])


def test_the_mode_comes_back_after_an_error(digits):
    model = ladder().train()
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(InputError, match="not finite"):
        limner.evaluate(model, digits, K)
    assert all(module.training for module in model.modules())


def test_another_device_takes_a_copy(digits):
    """The meta device computes nothing, so only the copy is seen."""
    model = ladder().train()
    with evaluating._in_evaluation_mode(model, torch.device("meta")) as ready:
        assert ready is not model
        assert next(ready.parameters()).is_meta
        assert not ready.training
    assert model.training
    assert not next(model.parameters()).is_meta


def test_images_may_be_arrays_in_any_float(digits):
    model, x = ladder(), frozen(digits, "test", "bernoulli")[:20]
    found = limner.evaluate(model, x, K)
    for images in (x.numpy().astype(np.float64), x.half(), x.numpy()[::-1][::-1]):
        again = limner.evaluate(model, images, K)
        assert torch.equal(again.elbo.per_image, found.elbo.per_image)
    few = limner.evaluate(model, x, K, num_images=5)
    assert few.num_images == 5


def test_double_models_and_other_observations(digits):
    found = limner.evaluate(ladder().double(), digits, K, num_images=10)
    assert found.elbo.per_image.dtype == torch.float64
    torch.manual_seed(0)
    config = VAEConfig(hidden_dims=(4,), latent_dim=2, observation="discretized_logistic")
    grey = load(DataConfig(name="digits", binarization="none"))
    assert limner.evaluate(build(config, (1, 8, 8)), grey, K, num_images=10).bits_per_dim.mean > 0
    assert limner.evaluate(ladder(), grey, K, num_images=10).num_images == 10, "drawn, as in fit"


def test_steps_of_a_draw(digits):
    torch.manual_seed(0)
    model = build(DRAWConfig(num_steps=3, hidden_dim=6, latent_dim=2), (1, 8, 8))
    found = limner.evaluate(model, digits, K, num_images=10, per_step=True)
    assert len(found.elbo_per_step) == len(found.kl_per_group) == 3
    assert_close(found.elbo_per_step[-1].per_image, found.elbo.per_image)
    model.num_steps = 2
    assert len(found.figures()["group_names"]) == 3, "the facts of the model when it was evaluated"


@pytest.mark.parametrize(
    ("data", "options", "sentence"),
    [
        (None, {}, "no images of its own"),
        (torch.zeros(3, 1, 8, 8, dtype=torch.uint8), {}, r"not uint8; pass x\.float\(\) / 255"),
        (torch.zeros(3, 1, 9, 9), {}, r"shape \[batch, 1, 8, 8\]"),
        (torch.full((3, 1, 8, 8), 0.5), {}, "pixels of 0 or 1"),
        (np.array(["a"]), {}, "cannot be images"),
        (torch.zeros(0, 1, 8, 8), {}, "has no images"),
        (torch.zeros(3, 1, 8, 8), {"split": "train"}, "has no split 'train'"),
        (torch.zeros(3, 1, 8, 8), {"num_images": 4}, "has 3 images"),
        ("mnist-5k", {}, r"takes images of \(1, 8, 8\)"),
        ("digits", {"num_images": 0}, "change num_images=0"),
        ("digits", {"split": "all"}, "There is no split 'all'"),
        ("digits", {"num_samples": 0}, "at least one"),
        ("digits", {"num_samples": 2.5}, "whole number of samples"),
        ("digits", {"num_images": 2.5}, "change num_images=2.5"),
        ("digits", {"per_step": True}, "leave out --per-step"),
        ([1, 2], {}, "cannot evaluate on a list"),
    ],
)
def test_refusals(data, options, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        limner.evaluate(ladder(), data, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", [3, None, VAEConfig()])
def test_only_models_and_runs_are_evaluated(model):
    with pytest.raises(InputError, match="a model, a run"):
        limner.evaluate(model)


def test_a_run_reports_images_that_it_was_trained_on(run, digits, monkeypatch):
    notes = []
    monkeypatch.setattr(evaluating, "warn", notes.append)
    limner.evaluate(run, replace(digits, test=digits.train), 1, num_images=5)
    assert [note.split(" of this run")[0] for note in notes] == [
        "5 of 5 evaluated images are training images"
    ]
