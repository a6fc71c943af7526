"""Run folders that cannot be written: a full disk, a read-only folder, another training."""

import itertools
import os
import resource
import subprocess
import threading
from contextlib import contextmanager, suppress
from functools import partial

import pytest
from victim import FORKS, Limner, Trial, at_event, images_in, limit, tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return images_in(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def short(images):
    return tiny(images, epochs=1, batch_size=90)


@pytest.fixture(scope="module")
def whole(short, tmp_path_factory):
    return Trial(short, tmp_path_factory.mktemp("whole") / "run").finish()


@contextmanager
def mounted(folder, options):
    """A file system of its own in `folder`."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting takes root and the right to")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(("size", "first"), [(0, 0), (700, 3)])
def test_the_disk_is_full_from_any_moment_on(size, first, short, whole, tmp_path):
    """From every sixth file event on: not a byte more, or a file that is cut short."""
    full = partial(limit, resource.RLIMIT_FSIZE, size)
    for number in itertools.count(first, 6):
        trial = Trial(short, tmp_path / str(number))
        outcome = trial.limner(partial(at_event, number, trial.out, full)).end()
        if outcome.status == 0:
            break
        outcome.refused("Cannot write", "free some space")
        assert not trial.strays()
        assert trial.finish().left() == whole.left()
    assert number > 20


def test_a_small_disk_fills_up(short, whole, tmp_path):
    with mounted(tmp_path / "disk", "size=256k") as disk:
        for kilobytes in range(16, 256, 60):
            trial = Trial(short, disk / "run")
            (disk / "filling").write_bytes(bytes(1024 * (256 - kilobytes)))
            outcome = trial.limner().end()
            if outcome.status:
                outcome.refused("No space left", "free some space")
            assert not trial.strays()
            (disk / "filling").unlink()
            assert trial.finish().left() == whole.left()
            subprocess.run(["rm", "-r", str(trial.out)], check=True)


def test_a_report_on_a_full_disk_leaves_the_one_before(whole):
    page = whole.out / "report.html"
    page.write_text("the one before")
    full = partial(limit, resource.RLIMIT_FSIZE, 5000)
    Limner("report", whole.out, prepare=full).end().refused("report.html", "free some space")
    assert page.read_text() == "the one before"
    assert not whole.strays()


def test_a_read_only_folder(short, whole, tmp_path):
    with mounted(tmp_path / "disk", "size=1m") as disk:
        trial = Trial(short, disk / "run").finish()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for words in (
            ["train", "--resume", "--out", trial.out],
            ["train", "--config", trial.out / "config.json", "--out", disk / "new"],
            ["train", "--config", trial.out / "config.json", "--out", trial.out, "--overwrite"],
            ["evaluate", trial.out, "--num-samples", 2],
            ["report", trial.out],
        ):
            Limner(*words).end().refused("Read-only file system", "choose another")
        assert trial.left() == whole.left()


def test_a_second_training_on_one_folder_is_refused(short, whole, tmp_path):
    """The first one waits in the middle of its checkpoints while others try."""
    trial, reached, go = Trial(short, tmp_path / "run"), FORKS.Event(), FORKS.Event()
    first = trial.limner(partial(pausing, 20, trial.out, reached, go))
    assert reached.wait(60)
    config = trial.out / "config.json"
    for words in (["--resume"], ["--config", config, "--overwrite"]):
        Limner("train", *words, "--out", trial.out).end().refused("Another training holds")
    Limner("train", "--config", config, "--out", trial.out).end().refused("--overwrite")
    go.set()
    assert first.end().status == 0
    assert trial.left() == whole.left()


def pausing(number, folder, reached, go):
    def pause():
        reached.set()
        go.wait()

    at_event(number, folder, pause)


def test_a_training_that_comes_late_to_a_free_folder_is_refused(short, whole, tmp_path):
    """It has seen that the folder is free, and waits there until another training is finished."""
    trial, reached, go = Trial(short, tmp_path / "run"), FORKS.Event(), FORKS.Event()
    late = trial.limner(partial(pausing, 0, trial.out, reached, go))
    assert reached.wait(60)
    trial.finish()
    go.set()
    late.end().refused("already holds a run")
    assert trial.left() == whole.left()


def together(gate):
    with suppress(threading.BrokenBarrierError):  # those that were refused do not come
        gate.wait(3)


@pytest.mark.parametrize("attempt", range(3))
def test_of_many_trainings_that_start_at_once_one_wins(attempt, short, tmp_path):
    """They are let go together at the threshold of the folder, each with a config of its own."""
    out, gate = tmp_path / "run", FORKS.Barrier(4)
    configs = []
    for seed in range(4):
        configs.append(tmp_path / f"{seed}.json")
        configs[-1].write_text(short.with_(seed=seed).to_json())
    start = partial(at_event, attempt, out, partial(together, gate))
    several = [
        Limner("train", "--config", config, "--out", out, prepare=start) for config in configs
    ]
    outcomes = [one.end() for one in several]
    won = [config for config, outcome in zip(configs, outcomes, strict=True) if not outcome.status]
    assert len(won) == 1, outcomes
    assert (out / "config.json").read_text() == won[0].read_text()
    alone = Trial(short.with_(seed=configs.index(won[0])), tmp_path / "alone").finish()
    assert Trial(short, out).left() == alone.left()
