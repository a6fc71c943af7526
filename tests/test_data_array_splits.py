"""Splits of arrays: what decides them, duplicates, and files that change."""

import os
from itertools import chain

import numpy as np
import pytest

from limner import data
from limner.data import arrays

R = np.random.RandomState(0)
RGB = R.randint(0, 256, (60, 8, 6, 3)).astype(np.uint8)
CLASSES = np.arange(60)


@pytest.fixture(params=[False, True], ids=["in memory", "in the cache"])
def _amount(request, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param:
        monkeypatch.setattr(arrays, "MOST_IN_MEMORY", 100)


def load(path, **more):
    return data.load(data.DataConfig(name=str(path), **more))


def members(dataset):
    """The images of each split, which are known by their labels."""
    return [sorted(dataset.split(split).labels.tolist()) for split in data.SPLITS]


SETTINGS = [{}, {"size": 4}, {"size": 4, "fit": "pad"}, {"colour": "grey"}, {"range": (0, 300)}]


@pytest.mark.usefixtures("_amount")
def test_the_split_of_an_image_does_not_depend_on_settings_or_layout(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, images=RGB, labels=CLASSES)
    expected = members(load(path))
    assert sorted(chain.from_iterable(expected)) == CLASSES.tolist()
    for settings in SETTINGS:
        assert members(load(path, **settings)) == expected
    np.savez(path, images=RGB.transpose(0, 3, 1, 2), labels=CLASSES)
    assert members(load(path)) == expected
    found = []
    for kind in ("<u2", ">u2"):
        np.savez(path, images=RGB.astype(kind), labels=CLASSES)
        found += [members(load(path, range=ends)) for ends in ((0, 255), (0, 999))]
    assert found == found[:1] * 4


def test_the_split_of_a_line_of_text_does_not_depend_on_other_lines(tmp_path):
    path, rows = tmp_path / "own.csv", RGB[..., 0, 0].astype(int)[:, :4]
    lines = [f"{label},{','.join(map(str, row))}" for label, row in enumerate(rows)]
    path.write_text("\n".join(["label,a,b,c,d", *lines]))
    before = members(load(path))
    path.write_text("\n".join(["label,a,b,c,d", *lines[:-1], lines[-1] + ".0"]))
    assert members(load(path, range=(0, 255))) == before


@pytest.mark.usefixtures("_amount")
def test_equal_images_in_two_splits_are_reported(tmp_path, capsys):
    path = tmp_path / "own.npz"
    np.savez(path, x_train=RGB[:40], x_val=RGB[38:50], x_test=RGB[49:])
    for _ in range(2):
        assert load(path).found.duplicates == 3
        assert "3 pictures are in more than one split" in capsys.readouterr().err


def test_a_file_that_changes_in_place_is_read_again(tmp_path, monkeypatch):
    """Same size, same inode and, set back by hand, the same time of change of its content."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(arrays, "MOST_IN_MEMORY", 100)
    path = tmp_path / "own.npy"
    np.save(path, RGB)
    state = path.stat()
    for levels in (RGB, 255 - RGB, RGB // 2):
        with path.open("r+b") as file:
            np.save(file, levels)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        dataset = load(path)
        found = np.concatenate([dataset.split(split).levels.numpy() for split in data.SPLITS])
        assert found.sum() == levels.sum(dtype=np.int64)
