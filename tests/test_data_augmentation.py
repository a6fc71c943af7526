"""Changes of training images, and training batches of more pixels than fit in memory."""

import dataclasses
import hashlib
import math
import os

import numpy as np
import psutil
import pytest
import torch

from limner import data
from limner.data import batches, mapped
from limner.data.augmentation import augmented, uniform
from limner.data.config import Augmentation
from limner.errors import InputError

LEVELS = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (30, 3, 9, 7)).astype(np.uint8))
ALL = torch.arange(30)


def dataset(levels=LEVELS, binarization="none", **augment):
    images = data.Images(levels)
    shape = tuple(levels.shape[1:])
    return data.Dataset(
        "own", binarization, 0, shape, images, images, images, augment=Augmentation(**augment)
    )


def numbers(epoch=2, index=ALL):
    return uniform(index, data.batches.mixed_seed("augment", 5, epoch), 6)


def change(epoch=2, index=ALL, **augment):
    return augmented(LEVELS[index], index, Augmentation(**augment), 5, epoch)


def test_uniform_numbers_are_splitmix64():
    """Steele, Lea and Flood 2014: the first outputs for the seed 1234567."""
    words = uniform(torch.tensor([0]), 1234567, 3)[:, 0] * 2.0**53
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert words.tolist() == [word >> 11 for word in known]
    many = uniform(torch.arange(4000), 9, 6)
    assert np.abs(many.mean(1) - 0.5).max() < 4 / math.sqrt(12 * 4000)
    assert np.abs(np.corrcoef(many) - np.eye(6)).max() < 4 / math.sqrt(4000)


def test_mirrored_images_are_a_random_half():
    mirrored = numbers()[0] < 0.5
    assert 0 < mirrored.sum() < 30
    for image, before, back in zip(change(flip=True), LEVELS, mirrored, strict=True):
        assert torch.equal(image, before.flip(2) if back else before)


def test_shifts_repeat_the_border_and_take_every_value():
    seen = set()
    for epoch in range(20):
        changed = change(epoch, shift=2)
        draws = numbers(epoch)
        for place in range(30):
            down, right = (int(draw * 5) - 2 for draw in draws[1:3, place])
            seen.add((down, right))
            for y in range(9):
                for x in range(7):
                    at = min(max(y - down, 0), 8), min(max(x - right, 0), 6)
                    assert torch.equal(changed[place][:, y, x], LEVELS[place][:, *at])
    assert len(seen) == 25


def test_crops_are_bilinear_samples_of_a_box():
    changed, draws = change(crop=0.5).double().numpy(), numbers()
    for place in range(30):
        share = 0.5 + 0.5 * draws[3, place]
        image = LEVELS[place].double().numpy()
        for y in range(9):
            for x in range(7):
                sides = ((y, draws[4, place], 9), (x, draws[5, place], 7))
                at = [
                    min(max(offset * (1 - share) * size + share * (k + 0.5) - 0.5, 0), size - 1)
                    for k, offset, size in sides
                ]
                (top, left), (bottom, right) = map(int, at), (math.ceil(c) for c in at)
                v, u = (round(256 * c) / 256 - int(c) for c in at)  # in steps of 1/256
                upper = image[:, top, left] * (1 - u) + image[:, top, right] * u
                lower = image[:, bottom, left] * (1 - u) + image[:, bottom, right] * u
                expected = upper * (1 - v) + lower * v
                assert np.abs(changed[place][:, y, x] - expected).max() <= 0.5


def test_a_crop_of_the_whole_image_changes_nothing_and_of_a_flat_one_neither():
    assert torch.equal(change(crop=1 - 1e-12), LEVELS)
    flat = torch.full((4, 1, 8, 8), 201, dtype=torch.uint8)
    assert torch.equal(augmented(flat, ALL[:4], Augmentation(crop=0.3, shift=3), 0, 0), flat)


EVERYTHING = {"flip": True, "shift": 2, "crop": 0.6}


@pytest.mark.parametrize("size", [1, 4, 30])
def test_a_change_depends_on_seed_epoch_and_image_alone(size):
    """Not on the batch that the image is in, nor on how many are drawn at once."""
    own = dataset(**EVERYTHING)
    found = data.TrainingBatches(own, "discretized_logistic", size, seed=5, block=3 * 189)
    order = found._order(2)
    for index in range(found.steps_per_epoch):
        chosen = order[index * size : (index + 1) * size]
        expected = change(2, chosen, **EVERYTHING).float() / 255
        assert torch.equal(found.batch(2, index), expected)
    assert not torch.equal(change(2, **EVERYTHING), change(3, **EVERYTHING))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_changes_are_the_same_on_every_device():
    there = augmented(LEVELS.cuda(), ALL.cuda(), Augmentation(**EVERYTHING), 5, 2)
    assert torch.equal(there.cpu(), change(**EVERYTHING))


@pytest.mark.parametrize("binarization", ["dynamic", "static", "threshold"])
def test_bits_move_as_they_are_and_only_in_training(binarization):
    own = dataset(LEVELS[:, :1], binarization, flip=True, shift=1)
    plain = dataclasses.replace(own, augment=Augmentation())
    for split in data.SPLITS:
        frozen = data.frozen(own, split, "bernoulli")
        assert torch.equal(frozen[:], data.frozen(plain, split, "bernoulli")[:])
    batch = data.TrainingBatches(own, "bernoulli", 30, seed=5).batch(1, 0)
    assert batch.unique().tolist() == [0, 1]
    if binarization != "dynamic":
        order = data.TrainingBatches(own, "bernoulli", 30, seed=5)._order(1)
        bits = data.frozen(own, "train", "bernoulli")[:].to(torch.uint8)[order]
        assert torch.equal(batch, augmented(bits, order, own.augment, 5, 1).float())


@pytest.mark.parametrize(
    ("levels", "binarization", "augment", "message"),
    [
        (LEVELS, "static", {"crop": 0.9}, "--data.binarization dynamic"),
        (LEVELS, "threshold", {"crop": 0.9}, "--data.augment.crop 1"),
        ((LEVELS > 99) * 255, "none", {"crop": 0.9}, "fixed binary pixels"),
        (LEVELS, "dynamic", {"shift": 7}, "at most 6"),
    ],
)
def test_changes_that_make_no_sense_are_refused(levels, binarization, augment, message):
    own = dataset(levels.to(torch.uint8), binarization, **augment)
    with pytest.raises(InputError, match=message):
        data.TrainingBatches(own, "bernoulli", 4, seed=0)


# SHA-256 of five batches of the digits before there was augmentation
GOLDEN = {
    ("dynamic", "bernoulli"): "6f87c989c2f087ea",
    ("static", "bernoulli"): "03d05fd71e089773",
    ("threshold", "bernoulli"): "527f91ad630d4c99",
    ("none", "gaussian"): "deeec7d9ebbbd88e",
    (
        "none",
        "discretized_logistic",
    ): "943b79856205aa06d12e8abe8698e7820b0b09f1df0e4a3bee545dfc46e36f48",
}


@pytest.mark.parametrize(("binarization", "observation"), GOLDEN)
@pytest.mark.parametrize("large", [2**28, 0])
def test_batches_without_changes_are_those_of_before(binarization, observation, large, monkeypatch):
    """SHA-256 of batches from before augmentation; the same from memory and block by block."""
    monkeypatch.setattr(batches, "LARGE", large)
    own = data.load(data.DataConfig(name="digits", binarization=binarization))
    found = data.TrainingBatches(own, observation, 50, seed=3, block=2**12)
    content = b"".join(found.batch(1, index).numpy().tobytes() for index in range(5))
    digest = hashlib.sha256(content).hexdigest()
    assert digest.startswith(GOLDEN[binarization, observation])


def test_pixels_larger_than_memory_are_read_in_bounded_memory(tmp_path):
    """20 GiB in a sparse file, of which only the pages of recent batches are kept."""
    count, shape = 20 * 2**30 // (3 * 64 * 64), (3, 64, 64)
    path = tmp_path / "pixels"
    with path.open("wb") as file:
        file.write(bytes([99]))
        os.truncate(path, count * math.prod(shape))
    raw = np.memmap(path, np.uint8, "c", shape=(count, *shape))
    own = dataset(torch.from_numpy(raw))
    small = dataclasses.replace(own, validation=own.train.take(slice(0, 1)))
    found = data.TrainingBatches(small, "discretized_logistic", 256, seed=0)
    memory = psutil.Process().memory_info
    before = memory().rss
    most = 0
    for index in range(200):
        found.batch(0, index)
        most = max(most, memory().rss - before)
    assert most < 250 * 2**20  # of 600 that were read


def test_rows_of_a_mapped_file_are_read_right_after_their_pages_were_given_back(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(mapped, "LARGE", 0)
    monkeypatch.setattr(batches, "LARGE", 0)
    monkeypatch.setattr(batches, "_RESIDENT", 0)
    levels = torch.from_numpy(np.random.RandomState(1).randint(0, 256, (500, 1, 50, 40), np.uint8))
    levels.numpy().tofile(tmp_path / "pixels")
    there = torch.from_numpy(np.memmap(tmp_path / "pixels", np.uint8, "c", shape=(500, 1, 50, 40)))
    assert mapped.is_mapped(there)
    assert not mapped.is_mapped(levels)
    one, two = (
        data.TrainingBatches(dataset(part), "discretized_logistic", 9, seed=0, block=30_000)
        for part in (there[100:], levels[100:])
    )
    for index in range(one.steps_per_epoch):
        assert torch.equal(one.batch(0, index), two.batch(0, index))
