"""A training that is killed at any moment and resumed ends with the same bits."""

import itertools
import random
import signal
import time
from functools import partial

import pytest
from victim import MODELS, Trial, at_event, die, images_in, tear, tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return images_in(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    """The undisturbed training of each model, and the seconds that it takes."""

    def trained(model):
        trial = Trial(tiny(images, model), tmp_path_factory.mktemp(model) / "run")
        start = time.monotonic()
        return trial.finish().left(), time.monotonic() - start

    Trial(tiny(images), tmp_path_factory.mktemp("first") / "run").finish()
    return {model: trained(model) for model in MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_killed_at_random_moments(model, images, whole, tmp_path):
    expected, seconds = whole[model]
    moments = random.Random(model)
    for number in range(5):
        trial = Trial(tiny(images, model), tmp_path / str(number))
        outcome = trial.limner().signal(signal.SIGKILL, moments.uniform(0, seconds))
        assert outcome.status in (-signal.SIGKILL, 0), outcome
        assert trial.finish().left() == expected
        assert not trial.strays()


def test_killed_again_and_again(images, whole, tmp_path):
    expected, seconds = whole["ladder-vae"]
    moments = random.Random(0)
    trial = Trial(tiny(images, "ladder-vae"), tmp_path / "run")
    for _ in range(12):
        outcome = trial.limner().signal(signal.SIGKILL, moments.uniform(0, 0.6 * seconds))
        assert outcome.status in (-signal.SIGKILL, 0), outcome
    assert trial.finish().left() == expected
    assert not trial.strays()


@pytest.mark.parametrize(("size", "first", "every"), [(None, 0, 4), (700, 2, 10)])
def test_killed_at_the_files_that_are_touched(size, first, every, images, tmp_path):
    """Before openings, renamings and removings; or in the writing that follows them."""
    action = die if size is None else partial(tear, size)
    config = tiny(images, epochs=1, batch_size=90)
    expected = Trial(config, tmp_path / "whole").finish().left()
    for number in itertools.count(first, every):
        trial = Trial(config, tmp_path / str(number))
        outcome = trial.limner(partial(at_event, number, trial.out, action)).end()
        if outcome.status == 0:
            break
        assert outcome.status in (-signal.SIGKILL, -signal.SIGXFSZ), outcome
        assert trial.finish().left() == expected
        assert not trial.strays()
    assert number > 30
