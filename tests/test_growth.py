"""A recurrent model that trains with fewer steps at first."""

import pytest
import torch

from limner import InputError, VAEConfig, fit
from limner.data import Frozen
from limner.models import ConvDRAWConfig, DRAWConfig
from limner.objectives import elbo
from limner.training import Run, train
from test_training import config, stopped_after, weights_of

SMALL = DRAWConfig(num_steps=4, hidden_dim=8, latent_dim=2)
GROWTH = ((0.3, 1), (0.7, 3))


def growing(model=SMALL, **changes):
    values = {"epochs": 4, "growth": GROWTH, "compile": "never"}
    return config(model, **values | changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(growing(), tmp_path_factory.mktemp("whole") / "run")


def test_each_epoch_has_the_steps_of_the_share_at_its_start(whole):
    for part in ("train", "validation"):
        groups = [len(entry[part]["kl_per_group"]) for entry in whole.metrics()]
        assert groups == [1, 1, 3, 4]
    assert whole.model().num_steps == 4


def test_the_best_weights_are_of_the_last_number_of_steps(whole):
    assert whole.validation_elbo() == whole.metrics()[-1]["validation"]["elbo"]


@pytest.mark.parametrize("steps", [3, 5, 9])
def test_a_resumed_training_grows_as_one_never_stopped(steps, whole, tmp_path):
    out = tmp_path / "run"
    stopped_after(steps, growing(), out)
    resumed = train(growing(), out, resume=True)
    expected, found = weights_of(whole), weights_of(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    for entry, other in zip(whole.metrics(), resumed.metrics(), strict=True):
        assert entry["train"] == other["train"]
        assert entry["validation"] == other["validation"]


def test_weights_of_a_training_that_has_not_grown_yet_keep_their_steps(whole, tmp_path):
    steps = 2 * whole.metrics()[0]["step"] + 1
    stopped_after(steps, growing(), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.model().num_steps == 1
    assert run.model("last", "raw").num_steps == 1


def test_a_larger_budget_does_not_shrink_the_model(whole, tmp_path):
    out = tmp_path / "run"
    train(growing(epochs=2), out)
    extended = train(growing(epochs=8), out, resume=True)
    groups = [len(entry["validation"]["kl_per_group"]) for entry in extended.metrics()]
    assert groups == [1, 3, 3, 3, 3, 3, 4, 4]


def test_without_a_folder_the_model_has_grown_at_the_end(whole):
    result = fit(growing(), whole.dataset())
    images = Frozen(whole.dataset(), "validation", "bernoulli")[:20]
    noise = torch.Generator().manual_seed(0)
    assert result.model.num_steps == 4
    expected = elbo(whole.model().infer(images, noise.manual_seed(0)))
    assert torch.equal(elbo(result.model.infer(images, noise.manual_seed(0))), expected)


@pytest.mark.parametrize(
    ("growth", "sentence"),
    [
        (((0.5, 2), (0.5, 3)), "the shares of growth must rise"),
        (((0.2, 3), (0.5, 2)), "the steps of growth must rise, up to the model's 4"),
        (((0.5, 4),), "the steps of growth must rise, up to the model's 4"),
        (((1.5, 2),), "growth.0.0"),
        (((0.5, 0),), "growth.0.1"),
    ],
)
def test_growth_that_is_none_is_refused(growth, sentence):
    with pytest.raises(InputError, match=sentence):
        growing(growth=growth)


def test_models_without_steps_cannot_grow():
    with pytest.raises(InputError, match="growth is for recurrent models, and vae has no steps"):
        growing(VAEConfig())
    with pytest.raises(InputError, match="growth needs steps that share their weights"):
        growing(ConvDRAWConfig(tied=False))
