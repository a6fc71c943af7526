"""Truncated files and flipped bits are detected, and the last intact file is used."""

import itertools
import random
import shutil
from functools import partial

import pytest
import torch
from victim import Limner, Trial, at_event, die, images_in, tiny

from limner import InputError, load
from limner.storage import load_tensors
from limner.training import Run

pytestmark = pytest.mark.slow
STATE, BEFORE, BEST, LAST = (
    f"checkpoints/{name}.safetensors" for name in ("training", "training.previous", "best", "last")
)
MODEL = "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return Trial(tiny(images_in(folder)), folder / "run").finish()


@pytest.fixture(scope="module")
def half(whole, tmp_path_factory):
    """The same run, killed in its second epoch."""
    trial = Trial(whole.config, tmp_path_factory.mktemp("half") / "run")
    trial.limner(partial(at_event, 60, trial.out, die)).end()
    assert len(Run.open(trial.out).metrics()) in (1, 2)
    return trial


@pytest.fixture
def copy(tmp_path):
    """A copy of a trial, and what it is told of."""
    numbers = itertools.count()

    def copied(trial):
        out = tmp_path / str(next(numbers)) / "run"
        shutil.copytree(trial.out, out)
        return Trial(trial.config, out)

    return copied


def damages(content):
    """`content` cut to 24 lengths, and with each of 40 random bits flipped."""
    yield from (content[: len(content) * part // 24] for part in range(24))
    bits = random.Random(0)
    for _ in range(40):
        flipped = bytearray(content)
        flipped[bits.randrange(len(content))] ^= 1 << bits.randrange(8)
        yield bytes(flipped)


def spoil(trial, *names):
    for name in names:
        content = bytearray((trial.out / name).read_bytes())
        content[len(content) // 2] ^= 4
        (trial.out / name).write_bytes(content)
    return trial


@pytest.mark.parametrize("name", [STATE, BEFORE, BEST, LAST, MODEL])
def test_any_damage_is_found(name, whole, tmp_path):
    path = tmp_path / "damaged.safetensors"
    for content in damages((whole.out / name).read_bytes()):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            load_tensors(path)


def test_a_damaged_config_is_taken_from_the_checkpoints(half, copy, capsys):
    trial = copy(half)
    path = trial.out / "config.json"
    for content in damages(path.read_bytes()):
        path.write_bytes(content)
        assert Run.open(trial.out).config == trial.config
        assert f"{path} is damaged or was changed" in capsys.readouterr().err


def test_the_images_may_have_moved(half, copy, tmp_path, capsys):
    trial = copy(half)
    moved = trial.config.with_(data=trial.config.data.with_(root=tmp_path))
    (trial.out / "config.json").write_text(moved.to_json())
    assert Run.open(trial.out).config == moved
    assert not capsys.readouterr().err


def test_damaged_weights_give_way_to_the_same_ones(whole, copy, capsys):
    expected = load(whole.out).state_dict()
    trial = copy(whole)
    for content in damages((whole.out / BEST).read_bytes()):
        (trial.out / BEST).write_bytes(content)
        found = load(trial.out).state_dict()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
        told = capsys.readouterr().err
        assert f"best.safetensors is damaged; {trial.out / MODEL} is used" in told
    with pytest.raises(InputError, match="averaged weights only"):
        load(trial.out, weights="raw")
    with pytest.raises(InputError, match="damaged"):
        load(spoil(trial, MODEL).out)


DAMAGED = {
    "state": ([STATE], "training.previous.safetensors is used in its place"),
    "best": ([BEST], "the best weights from here on"),
    "config": (["config.json"], "the config in the checkpoints is used"),
    "all": ([STATE, BEST, LAST, "config.json"], "is used in its place"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_run_is_resumed_and_says_so(case, whole, half, copy):
    names, sentence = DAMAGED[case]
    trial = spoil(copy(half), *names)
    outcome = trial.limner().end()
    assert outcome.status == 0, outcome
    assert sentence in outcome.told
    assert trial.left() == whole.left()


@pytest.mark.parametrize("size", [0, 100])
def test_metrics_that_lost_lines_are_told(size, whole, half, copy):
    trial = copy(half)
    path = trial.out / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:size])
    outcome = trial.limner().end()
    assert outcome.status == 0, outcome
    assert "has lost its last lines" in outcome.told
    expected, found = whole.left(), trial.left()
    assert found["metrics"] == expected["metrics"][-len(found["metrics"]) :]
    assert found["model.safetensors"] == expected["model.safetensors"]


def test_no_sound_state_is_refused(half, copy):
    trial = spoil(copy(half), STATE, BEFORE)
    trial.limner().end().refused("training.safetensors is damaged")


def test_a_damaged_state_never_replaces_a_sound_one(whole, half, copy):
    """Killed before each of the renamings of the resumed training's first checkpoints."""
    for number in range(5):
        trial = spoil(copy(half), STATE)
        trial.limner(partial(at_event, number, trial.out, die, ("os.rename",))).end()
        assert trial.finish().left() == whole.left()


def test_a_finished_run_keeps_its_model(whole, copy):
    expected = load_tensors(whole.out / MODEL)
    for names in ([BEST], [BEST, LAST], [STATE, BEST], [STATE, BEFORE, BEST]):
        trial = spoil(copy(whole), *names)
        trial.limner().end()
        tensors, document = load_tensors(trial.out / MODEL)
        assert document == expected[1]
        assert all(torch.equal(tensors[name], expected[0][name]) for name in expected[0])
    trial = copy(whole)
    shutil.rmtree(trial.out / "checkpoints")
    trial.limner().end().refused("is finished")
    Limner("evaluate", trial.out, "--num-samples", 2).end()
    assert load(trial.out)
