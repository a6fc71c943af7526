"""Splits as a model sees them, computed in parts and within bounded memory."""

import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.data import Dataset, Frozen, Images, evenly
from limner.evaluation.partial import hash_of

KINDS = [
    ("dynamic", "bernoulli"),
    ("threshold", "bernoulli"),
    ("none", "gaussian"),
    ("none", "discretized_logistic"),
    ("none", "discretized_logistic_mixture"),
]


def dataset(binarization, count=11, shape=(1, 3, 5)):
    levels = np.random.default_rng(0).integers(256, size=(count, *shape), dtype=np.uint8)
    images = Images(torch.from_numpy(levels))
    return Dataset("ramp", binarization, 3, shape, images, images, images)


def reference(data, binarization, observation):
    """All pixels at once, by the formulas of `limner.data.pixels`, in NumPy."""
    levels = data.test.levels.numpy().astype(np.int64)
    if binarization == "threshold":
        return levels >= 128
    if observation.startswith("discretized_logistic"):
        return levels.astype(np.float32) / np.float32(255)
    digest = hashlib.blake2b(repr((3, "test")).encode(), digest_size=8).digest()
    seed = (int.from_bytes(digest, "little") >> 1) % 2**32
    raw = np.random.RandomState(seed).bytes(2 * levels.size)
    words = np.frombuffer(raw, "<i2").reshape(levels.shape).astype(np.int64)
    if observation == "gaussian":
        return (levels + (words + 32768) / 65536) / 256
    return words - (words % 2) < 257 * levels - 32768


@pytest.mark.parametrize(("binarization", "observation"), KINDS)
@given(cuts=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=6))
@settings(max_examples=30, deadline=None)
def test_parts_in_any_order_are_those_of_the_whole(binarization, observation, cuts):
    """15 pixels an image: a part may begin in the middle of what numpy draws at once."""
    data = dataset(binarization)
    whole = torch.from_numpy(reference(data, binarization, observation)).float()
    lazy = Frozen(data, "test", observation)
    for start, end in cuts:
        assert torch.equal(lazy[start:end], whole[start:end])
    assert torch.equal(lazy.take([7, 2, 7]), whole[[7, 2, 7]])
    assert torch.equal(torch.cat([*lazy.first(8).split(3)]), whole[:8])
    assert torch.equal(lazy[-2:], whole[-2:])
    assert len(lazy) == 11


def test_a_step_is_refused():
    with pytest.raises(ValueError, match="in order"):
        Frozen(dataset("dynamic"), "test", "bernoulli")[::2]


def test_even_images_are_spread_and_at_most_as_many_as_asked_for():
    for count, most in itertools.product((1, 9, 10, 11, 99), (1, 3, 10)):
        images = Images(torch.arange(count).view(-1, 1, 1, 1).to(torch.uint8))
        chosen = evenly(images, most).levels.flatten().tolist()
        assert (chosen == list(range(count))) == (count <= most)
        assert len(chosen) <= most
        assert len({b - a for a, b in itertools.pairwise(chosen)}) <= 1
        assert chosen[0] == 0


def test_an_evaluation_of_parts_is_known_as_that_of_the_whole():
    lazy = Frozen(dataset("dynamic"), "test", "bernoulli")
    assert hash_of(lazy) == hash_of(lazy[:])
    assert hash_of(lazy.first(10)) != hash_of(lazy)


LARGE = """
import sys
import numpy as np, psutil, torch
from limner.commands.evaluate import Options
from limner.config import RunConfig
from limner.data import DataConfig, Dataset, Images
from limner.evaluation import evaluate_model
from limner.data import Frozen
from limner.models import VAEConfig
from limner.training.processes import Processes
from limner.training.start import initial_model
from limner.training.validation import Validator

resident = lambda: psutil.Process().memory_info().rss
levels = torch.from_numpy(np.memmap(sys.argv[1], np.uint8, "c", shape=(160_000, 3, 64, 64)))
parts = Images(levels[:140_000]), Images(levels[140_000:159_000]), Images(levels[159_000:])
data = Dataset("large", "none", 0, (3, 64, 64), *parts)
model = VAEConfig(hidden_dims=(2,), latent_dim=2, observation="discretized_logistic")
config = RunConfig(model=model, data=DataConfig(name="large"), epochs=1)
before = resident()
model = initial_model(config, data)
class NoBatches: steps_per_epoch = 0
validator = Validator(config, data, NoBatches(), model)
assert len(validator.images) == 9_500
validator.images = validator.images.first(500)
validator(model.state_dict(), 0)
most = resident() - before
evaluate_model(model.eval(), Frozen(data, "test", "discretized_logistic").first(100), 1)
print(max(most, resident() - before), levels[0, 0, 0, 0].item())
"""


def test_large_mapped_images_take_little_memory(tmp_path):
    """2 GB of images in a file with holes: init, validation and evaluation keep few pages."""
    path = tmp_path / "pixels"
    with path.open("wb") as file:
        file.truncate(160_000 * 3 * 64 * 64)
        file.write(b"\7")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LARGE, str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    most, first = map(int, done.stdout.split())
    assert most < 1.3 * 2**30
    assert first == 7
