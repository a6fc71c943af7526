"""Splits, draws and batches."""

import dataclasses

import numpy as np
import pytest
import torch

from limner import data
from limner.data.dataset import stratified_order
from limner.data.pixels import bernoulli, dequantized, mixed_seed, noise_words
from limner.errors import InputError

WORDS = torch.arange(-(2**15), 2**15, dtype=torch.int16)


def ramp(count=20, binarization="dynamic", levels=None):
    """A dataset whose every image holds the levels 0, 5, ..., 255 (or those given)."""
    row = torch.arange(0, 256, 5, dtype=torch.uint8) if levels is None else torch.tensor(levels)
    images = data.Images(row.to(torch.uint8).repeat(count, 1, 1, 1), torch.arange(count))
    return data.Dataset("ramp", binarization, 0, (1, 1, len(row)), images, images, images)


@pytest.fixture(scope="module")
def digits():
    return data.load(data.DataConfig(name="digits"))


@pytest.mark.parametrize(
    ("name", "sizes", "shape"),
    [("mnist-5k", (4000, 500, 500), (1, 28, 28)), ("digits", (1297, 250, 250), (1, 8, 8))],
)
def test_installed_sets_split_into_stratified_disjoint_parts(name, sizes, shape):
    dataset = data.load(data.DataConfig(name=name))
    splits = [dataset.split(split) for split in data.SPLITS]
    assert tuple(map(len, splits)) == sizes
    assert dataset.image_shape == shape
    assert dataset.binarization == "dynamic"
    assert int(dataset.train.levels.max()) == 255
    whole = torch.cat([split.labels for split in splits]).bincount().double()
    for split in splits:
        share = whole * len(split) / whole.sum()
        assert (split.labels.bincount() - share).abs().max() <= 1
    rows = torch.cat([split.levels.flatten(1) for split in splits]).numpy()
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_a_split_does_not_depend_on_any_seed():
    first, second = (data.load(data.DataConfig(name="digits", draw_seed=seed)) for seed in (0, 1))
    assert torch.equal(first.test.levels, second.test.levels)


def test_every_prefix_of_a_stratified_order_holds_the_classes_in_proportion():
    labels = np.repeat([3, 1, 7], [10, 50, 40])
    order = stratified_order(labels, 100, seed=5)
    assert sorted(order) == list(range(100))
    for end in range(1, 101):
        counts = [(labels[order[:end]] == label).sum() for label in (3, 1, 7)]
        assert np.abs(np.array(counts) - end * np.array([0.1, 0.5, 0.4])).max() <= 1.5


def test_bernoulli_has_the_probability_of_its_level_over_all_words():
    for level in range(256):
        levels = torch.full_like(WORDS, level, dtype=torch.uint8)
        mean = bernoulli(levels, WORDS).double().mean().item()
        assert abs(mean - level / 255) <= 2**-16
        assert level not in (0, 255) or mean == level / 255


def test_dequantized_pixels_are_uniform_on_their_level():
    for level in (0, 1, 128, 255):
        x = dequantized(torch.full_like(WORDS, level, dtype=torch.uint8), WORDS)
        assert torch.equal((x.double() * 256).floor(), torch.full_like(x, level).double())
        assert (x.double() * 256 - level).mean() == pytest.approx(0.5, abs=2**-16)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 1, 7, 7)])
def test_noise_of_any_size_is_reproducible(shape):
    first, second = (noise_words(torch.Size(shape), 3, torch.device("cpu")) for _ in "ab")
    assert first.shape == shape
    assert first.dtype == torch.int16
    assert torch.equal(first, second)


def test_seeds_differ_in_the_lower_32_bits_that_torch_keeps():
    seeds = {mixed_seed(a, b) % 2**32 for a in range(60) for b in range(60)}
    assert len(seeds) >= 3599
    assert mixed_seed(1, 23) != mixed_seed(12, 3)


@pytest.mark.parametrize("split", data.SPLITS)
@pytest.mark.parametrize("binarization", ["dynamic", "static", "threshold"])
def test_frozen_draws_are_binary_and_the_same_at_every_call(digits, split, binarization):
    dataset = dataclasses.replace(digits, binarization=binarization)
    x = data.frozen(dataset, split, "bernoulli")
    assert x.shape == dataset.split(split).levels.shape
    assert x.dtype == torch.float32
    assert x.unique().tolist() == [0, 1]
    assert torch.equal(x, data.frozen(dataset, split, "bernoulli"))
    redrawn = data.frozen(dataclasses.replace(dataset, draw_seed=1), split, "bernoulli")
    assert torch.equal(x, redrawn) == (binarization == "threshold")


def test_the_frozen_test_set_is_the_same_in_every_version(digits):
    """Recorded results speak of these very pixels, and numpy promises their stream."""
    assert int(data.frozen(digits, "test", "bernoulli").sum()) == 4882


def test_dynamic_batches_differ_between_epochs_with_the_mean_of_their_levels():
    dataset = ramp(count=50)
    batches = data.TrainingBatches(dataset, "bernoulli", 50, seed=0)
    draws = torch.stack([batches.batch(epoch, 0) for epoch in range(40)]).double()
    assert draws.unique().tolist() == [0, 1]
    assert not torch.equal(draws[0], draws[1])
    p = dataset.train.levels[0, 0, 0].double() / 255
    error = (p * (1 - p) / (50 * 40)).sqrt()
    assert ((draws.mean((0, 1, 2, 3)) - p).abs() <= 4 * error).all()


def test_a_batch_is_a_function_of_seed_epoch_and_index(digits):
    one, two = (data.TrainingBatches(digits, "bernoulli", 64, seed=7) for _ in "ab")
    later = one.batch(3, 5)
    assert torch.equal(two.batch(3, 5), later)
    one.batch(0, 0)
    assert torch.equal(one.batch(3, 5), later)
    for seed, epoch, index in [(8, 3, 5), (7, 4, 5), (7, 3, 6)]:
        other = data.TrainingBatches(digits, "bernoulli", 64, seed=seed).batch(epoch, index)
        assert not torch.equal(other, later)


def test_batches_drawn_together_may_be_asked_for_in_any_order(digits):
    dataset = dataclasses.replace(digits, binarization="dynamic")
    block = 5 * 100 * dataset.train.levels[0].numel()
    one, two = (data.TrainingBatches(dataset, "bernoulli", 100, 0, block=block) for _ in "ab")
    places = [(epoch, index) for epoch in (0, 1) for index in range(one.steps_per_epoch)]
    assert one.steps_per_epoch % 5, "the last block is to be a short one"
    drawn = {place: one.batch(*place) for place in places}
    for place in reversed(places):
        assert len(drawn[place]) == 100
        assert torch.equal(two.batch(*place), drawn[place])


@pytest.mark.parametrize("binarization", ["static", "threshold"])
@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_an_epoch_holds_each_frozen_image_once(digits, binarization, at_once):
    dataset = dataclasses.replace(digits, binarization=binarization)
    block = at_once * dataset.train.levels[0].numel()
    batches = data.TrainingBatches(dataset, "bernoulli", 1, seed=0, block=block)
    wanted = data.frozen(dataset, "train", "bernoulli").flatten(1)
    epochs = [
        torch.cat([batches.batch(epoch, index) for index in range(batches.steps_per_epoch)])
        for epoch in (0, 1)
    ]
    assert not torch.equal(*epochs)
    for epoch in epochs:
        rows = [sorted(map(tuple, rows.tolist())) for rows in (epoch.flatten(1), wanted)]
        assert rows[0] == rows[1]


def test_the_incomplete_batch_is_dropped_and_a_large_one_cut():
    assert data.TrainingBatches(ramp(20), "bernoulli", 6, seed=0).steps_per_epoch == 3
    whole = data.TrainingBatches(ramp(20), "bernoulli", 100, seed=0)
    assert whole.steps_per_epoch == 1
    assert whole.batch(0, 0).shape == (20, 1, 1, 52)
    with pytest.raises(IndexError):
        whole.batch(0, 1)
    with pytest.raises(InputError, match="at least 1"):
        data.TrainingBatches(ramp(20), "bernoulli", 0, seed=0)


def test_levels_and_dequantized_pixels():
    dataset = ramp(binarization="none")
    levels = dataset.train.levels
    assert torch.equal(data.frozen(dataset, "test", "discretized_logistic"), levels / 255)
    x = data.frozen(dataset, "test", "gaussian")
    assert torch.equal((x * 256).floor(), levels.float())
    noisy = data.TrainingBatches(dataset, "gaussian", 4, seed=0)
    assert not torch.equal(noisy.batch(0, 0), noisy.batch(1, 0))
    exact = data.TrainingBatches(dataset, "discretized_logistic", 4, seed=0)
    assert torch.equal(exact.batch(0, 0), levels[:4] / 255)


@pytest.mark.parametrize(
    ("binarization", "levels", "observation", "kind"),
    [
        ("dynamic", None, "bernoulli", "binary"),
        ("none", [0, 255], "bernoulli", "binary"),
        ("none", None, "gaussian", "dequantized"),
        ("none", None, "discretized_logistic", "levels"),
        ("none", None, "discretized_logistic_mixture", "levels"),
        ("none", None, "bernoulli", "--data.binarization dynamic"),
        ("static", None, "gaussian", "--data.binarization none"),
        ("threshold", None, "discretized_logistic", "--data.binarization none"),
        ("none", [0, 255], "gaussian", "--model.observation bernoulli"),
        ("none", None, "poisson", "no observation 'poisson'"),
    ],
)
def test_observations_that_make_no_density_are_refused(binarization, levels, observation, kind):
    dataset = ramp(binarization=binarization, levels=levels)
    if kind in ("binary", "dequantized", "levels"):
        assert data.pixel_kind(dataset, observation) == kind
        return
    for call in (data.pixel_kind, lambda d, o: data.frozen(d, "test", o)):
        with pytest.raises(InputError, match=kind):
            call(dataset, observation)


def test_unknown_names_are_refused_with_the_names_there_are():
    with pytest.raises(InputError, match="mnist-5k"):
        data.load(data.DataConfig(name="mnits"))
    with pytest.raises(InputError, match="mnist-5k"):
        data.fetch("mnits")
    with pytest.raises(InputError, match="no split"):
        ramp().split("valid")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="binarization"):
        data.DataConfig(binarization="grey")  # pyright: ignore[reportArgumentType]


def test_the_catalogue_names_every_dataset_once():
    assert len(set(data.names())) == len(data.CATALOGUE)
    assert data.fetch("mnist-5k") == []
