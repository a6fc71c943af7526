"""`evaluate_model`: its results, that only its settings determine them, and results.json."""

import json
import math

import pytest
import torch
from torch.testing import assert_close

from limner import DRAWConfig, InputError, VAEConfig, elbo
from limner.evaluation import (
    Estimate,
    evaluate_model,
    likelihood,
    results_of,
    set_num_steps,
    units,
)
from limner.models import build
from limner.objectives import importance_weighted_bound
from linear_gaussian import LinearGaussian, TwoGroups


@pytest.fixture
def model():
    model = TwoGroups().eval()
    with torch.no_grad():
        model.shifts.add_(0.3)
    return model


def images(n=12, *shape):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(n, *(shape or (1, 1, 1)), generator=generator, dtype=torch.float64)


def draw(**options):
    torch.manual_seed(0)
    config = DRAWConfig(**{"num_steps": 4, "hidden_dim": 6, "latent_dim": 3} | options)
    return build(config, (1, 3, 4)).double().eval()


SMALL = {"block_size": 5}


def assert_same(a, b, atol=0.0):
    assert a.per_image.keys() == b.per_image.keys()
    for name, values in a.per_image.items():
        assert_close(b.per_image[name], values, rtol=0, atol=atol, msg=name)
    assert a.active_units == b.active_units


def test_values_of_single_images_are_those_of_the_model():
    exact = TwoGroups().eval()
    found = evaluate_model(exact, images(), num_samples=3, **SMALL)
    assert_close(found.per_image["iw_bound"], exact.log_evidence(images()))
    values = found.per_image
    assert_close(values["elbo"], values["log_likelihood"] - values["kl"].sum(1))
    assert values["kl"].shape == (12, 2)


def test_elbo_bound_and_units_have_noise_of_their_own_in_every_block(model):
    x = images(1).expand(10, -1, -1, -1)
    values = evaluate_model(model, x, num_samples=1, **SMALL).per_image
    for name in ("elbo", "iw_bound"):
        assert values[name].unique().numel() == 10, "no noise is used twice"
    other = evaluate_model(model, x, num_samples=1, seed=1, **SMALL).per_image
    assert not (other["elbo"] == values["elbo"]).any()


def test_memory_does_not_change_an_evaluation(model, monkeypatch):
    whole = evaluate_model(model, images(), num_samples=20)
    for module in ("limner.objectives", "limner.evaluation.units"):
        monkeypatch.setattr(f"{module}.rows_that_fit", lambda model, trace=False: 30)
    assert_same(whole, evaluate_model(model, images(), num_samples=20), atol=1e-12)


def interrupt_after(blocks):
    def report(done, figures):
        if done >= 5 * blocks:
            raise KeyboardInterrupt

    return report


def test_a_resumed_evaluation_equals_an_uninterrupted_one(model, tmp_path):
    done = []
    settings = {"num_samples": 7, "seed": 3, "partial_folder": tmp_path, **SMALL}
    with pytest.raises(KeyboardInterrupt):
        evaluate_model(model, images(), **settings, report=interrupt_after(2))
    assert len(list(tmp_path.glob("partial-*"))) == 1
    resumed = evaluate_model(model, images(), **settings, report=lambda n, _: done.append(n))
    assert done == [12], "only what was left is computed"
    assert_same(resumed, evaluate_model(model, images(), num_samples=7, seed=3, **SMALL))
    assert not list(tmp_path.iterdir())


def test_a_partial_evaluation_serves_only_its_own_model_images_and_settings(model, tmp_path):
    settings = {"num_samples": 2, "partial_folder": tmp_path, **SMALL}
    with pytest.raises(KeyboardInterrupt):
        evaluate_model(model, images(), **settings, report=interrupt_after(1))
    a = model.a.detach().clone()
    for change in ("seed", "images", "model", "damage"):
        done = []
        x = images() + (change == "images")
        model.a.data = a + (change == "model")
        if change == "damage":
            next(tmp_path.iterdir()).write_bytes(b"no tensors")
        evaluate_model(
            model,
            x,
            **settings,
            seed=int(change == "seed"),
            report=lambda n, _, done=done: done.append(n),
        )
        assert done == [5, 10, 12], change


def test_units_are_active_where_their_posterior_mean_varies_by_more_than_a_hundredth():
    """The posterior mean is slope * x, whose variance over images is made just more or less."""
    model = LinearGaussian(scales=(1.0, 1.0, 1.0, 1.0)).eval()
    x = images(1000, 1, 1, 4)
    x = (x - x.mean(0)) / x.std(0)
    std = torch.tensor([1.0, 0.0105, 0.0095, 1e-4], dtype=torch.float64).sqrt()
    found = evaluate_model(model, (x * std + 5) / model.slope, num_samples=1)
    assert found.active_units == [2]
    assert found.latent_units == [4]


def test_units_are_counted_on_the_first_images_in_whole_blocks(monkeypatch):
    model = LinearGaussian(scales=(1.0, 1.0)).eval()
    x = torch.zeros(12, 1, 1, 2, dtype=torch.float64)
    x[4:, ..., 0] = images(8, 1, 1)  # from the second block on
    x[8:, ..., 1] = images(4, 1, 1)  # in the third block only
    assert evaluate_model(model, x, 1, block_size=4).active_units == [2]
    for count, active in ((4, 0), (5, 1), (9, 2)):
        monkeypatch.setattr(likelihood, "UNIT_IMAGES", count)
        assert evaluate_model(model, x, 1, block_size=4).active_units == [active]


def test_groups_above_are_sampled_and_their_draws_averaged(model, generator):
    """z_1's mean depends on the draw of z_2: for one image it varies, ten times less in a mean."""
    x = torch.full((1000, 1, 1, 1), 0.7, dtype=torch.float64)
    single = [latent.q.loc for latent in model.infer(x, generator, trace=True).latents]
    averaged = units.posterior_means(model, x, generator)
    for z_2 in (single[1], averaged[1]):
        assert_close(z_2, z_2[:1].expand(1000, -1))
    one, ten = single[0].var(), averaged[0].var()
    assert one > 0.01
    assert_close(ten / one, torch.tensor(0.1, dtype=torch.float64), rtol=0, atol=0.03)


def test_the_bound_per_step_is_that_of_a_shorter_draw():
    model, x = draw(attention="filterbank"), images(6, 1, 3, 4).sigmoid().round()
    trace = model.infer(x, torch.Generator().manual_seed(0), trace=True)
    steps = likelihood.elbo_per_step(model, x, trace)
    assert steps.shape == (6, 4)
    for t in range(1, 5):
        shorter = set_num_steps(draw(attention="filterbank"), t)
        zs = [latent.z for latent in trace.latents[:t]]
        assert_close(steps[:, t - 1], elbo(shorter.infer(x, latents=zs)))


def test_per_step_values_end_with_the_elbo():
    x = images(6, 1, 3, 4).sigmoid().round()
    values = evaluate_model(draw(), x, num_samples=1, per_step=True).per_image
    assert_close(values["elbo_per_step"][:, -1], values["elbo"])


def test_num_steps_is_a_dial():
    x = images(6, 1, 3, 4).sigmoid().round()
    assert evaluate_model(set_num_steps(draw(), 7), x, 1).per_image["kl"].shape == (6, 7)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda model: evaluate_model(model, images(2)[:0]), "at least one image"),
        (lambda model: evaluate_model(model, images(), 0), "at least one"),
        (lambda model: evaluate_model(model, images(), per_step=True), "leave out --per-step"),
        (lambda model: set_num_steps(model, 3), "leave out --num-steps"),
        (lambda model: set_num_steps(draw(), 0), "at least one step"),
        (lambda model: evaluate_model(model, images() * math.nan), "image 0 is not finite"),
    ],
)
def test_refusals(model, call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(model)


def test_training_mode_is_refused(model):
    with pytest.raises(RuntimeError, match=r"model\.eval"):
        evaluate_model(model.train(), images())


def test_summary_is_the_mean_and_its_standard_error():
    found = Estimate(torch.tensor([1.0, 2.0, 6.0])).summary()
    assert found == {"mean": 3.0, "stderr": pytest.approx(math.sqrt(7 / 3))}


@pytest.mark.parametrize(
    ("observation", "bits_gained"),
    [
        ("bernoulli", 0),
        ("gaussian", 8),
        ("discretized_logistic", 0),
        ("discretized_logistic_mixture", 0),
    ],
)
def test_results_say_what_was_measured_and_on_what(observation, bits_gained):
    config = VAEConfig(hidden_dims=(4,), latent_dim=3, observation=observation)
    model = build(config, (3, 2, 2)).eval()
    x = torch.rand(7, 3, 2, 2, generator=torch.Generator().manual_seed(0)).round()
    found = evaluate_model(model, x, num_samples=4, seed=2)
    results = json.loads(json.dumps(results_of(found, {"split": "test"}), allow_nan=False))
    assert results["elbo"] == Estimate(found.per_image["elbo"]).summary()
    iw_bound = Estimate(found.per_image["iw_bound"]).summary()
    assert results["iw_bound"] == iw_bound | {"num_samples": 4}
    nats = results["reconstruction"]["mean"] - results["kl"]["mean"]
    assert results["elbo"]["mean"] == pytest.approx(nats)
    assert sum(results["kl_per_group"]) == pytest.approx(results["kl"]["mean"])
    for name in ("elbo", "iw_bound"):
        bits = results["bits_per_dim"][name]
        assert bits["mean"] == pytest.approx(
            bits_gained - results[name]["mean"] / (12 * math.log(2))
        )
        assert bits["stderr"] == pytest.approx(results[name]["stderr"] / (12 * math.log(2)))
    assert results["latent_units"] == [3]
    assert (results["split"], results["num_images"], results["seed"]) == ("test", 7, 2)
    assert results["parameters"] == model.num_parameters
    assert results["versions"].keys() == {"limner", "torch", "python"}


def test_a_bound_of_many_samples_is_above_the_elbo(model):
    found = evaluate_model(model, images(100), num_samples=50)
    assert found.per_image["iw_bound"].mean() > found.per_image["elbo"].mean()
    direct = importance_weighted_bound(model, images(100), 50)
    assert_close(found.per_image["iw_bound"].mean(), direct.mean(), rtol=0, atol=0.1)
