"""Splits by content: what stays where when images are added, and what is reported."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from limner import data
from limner.data import splits
from limner.data.dataset import SPLITS, named_splits
from limner.errors import InputError

MISSING = [["validation", "test"], ["test"], ["validation"], []]
keys = st.binary(max_size=6)
PICTURES = np.random.RandomState(0).randint(0, 256, (40, 5, 4)).astype(np.uint8)


def h(key, seed):
    """The hash in the module's docstring, in [0, 1)."""
    return (
        int.from_bytes(hashlib.blake2b(f"{seed}:".encode() + key, digest_size=8).digest(), "little")
        / 2**64
    )


def cut(keys, missing=("validation", "test"), seed=0):
    """The split of each key by name, or None if there are too few."""
    try:
        return [SPLITS[place] for place in splits.cut(keys, missing, seed, "here")]
    except InputError:
        return None


@settings(max_examples=300)
@given(st.lists(keys, max_size=30), st.lists(keys, max_size=4), st.sampled_from(MISSING))
def test_an_added_image_moves_none_from_training_to_evaluation(known, added, missing):
    before, after = cut(known, missing), cut(known + added, missing)
    if before is not None and after is not None:
        moved = [b for a, b in zip(before, after, strict=False) if a == "train"]
        assert set(moved) <= {"train"}


@settings(max_examples=300)
@given(st.lists(keys, min_size=1, max_size=60), st.sampled_from(MISSING), st.integers(0, 3))
def test_a_cut_follows_its_definition(known, missing, seed):
    found = cut(known, missing, seed)
    if found is None:
        shares = {h(key, seed) for key in known}
        ranges = {"test": (0, 0.1), "validation": (0.1, 0.2)}
        in_any = [any(low <= x < high for low, high in map(ranges.get, missing)) for x in shares]
        assert len(shares) <= len(missing) or all(in_any)
        return
    assert set(found) == {"train", *missing}
    assert len({(key, split) for key, split in zip(known, found, strict=True)}) == len(set(known))
    for key, split in zip(known, found, strict=True):
        low, high = {"test": (0, 0.1), "validation": (0.1, 0.2), "train": (0.2, 1)}[split]
        alone = len({k for k, s in zip(known, found, strict=True) if s == split}) == 1
        others_missing = len(missing) < 2 and split == "train"
        assert low <= h(key, seed) < high or alone or others_missing


def test_a_tenth_is_for_validation_and_a_tenth_for_test():
    found = cut([bytes([i % 256, i // 256]) for i in range(20_000)])
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert abs(found.count(split) / 20_000 - share) < 4 * (share * (1 - share) / 20_000) ** 0.5


def test_the_split_of_an_image_is_the_same_in_every_version():
    found = cut([bytes([i]) for i in range(100)], seed=3)
    held = {name: [i for i in range(100) if found[i] == name] for name in SPLITS[1:]}
    shares = [h(bytes([i]), 3) for i in range(100)]
    assert held["test"] == [i for i in range(100) if shares[i] < 0.1]
    assert held["validation"] == [i for i in range(100) if 0.1 <= shares[i] < 0.2]


def test_missing_splits_are_cut_from_train():
    levels = torch.from_numpy(PICTURES[:, None])
    images = data.Images(levels, torch.arange(40))
    parts = splits.complete({"train": images}, 0, "ramp")
    found = torch.cat([part.labels for part in parts])
    assert torch.equal(found.sort().values, torch.arange(40))
    for part in parts:
        assert torch.equal(part.levels, levels[part.labels])
    kept = splits.complete({"train": images, "test": images}, 0, "ramp")
    assert kept[2] is images
    for few in (1, 2):
        with pytest.raises(InputError, match="too few to split; give at least 3"):
            splits.complete({"train": images.take(slice(0, few))}, 0, "ramp")
    same = data.Images(levels[:1].expand(9, -1, -1, -1))
    with pytest.raises(InputError, match="9 training images of ramp are only 1 different"):
        splits.complete({"train": same}, 0, "ramp")
    with pytest.raises(InputError, match="no training images"):
        splits.complete({"test": images}, 0, "ramp")


def test_digests_are_equal_for_equal_pixels_only():
    levels = torch.from_numpy(PICTURES[[0, 1, 0, 2]][:, None])
    found = splits.digests(data.Images(levels))
    assert found.dtype == np.uint64
    assert found[0] == found[2]
    assert len(set(found.tolist())) == 3
    flipped = splits.digests(data.Images(levels.flip(0).contiguous()))
    assert flipped.tolist() == found[::-1].tolist()
    assert splits.repeated(found, [2, 1, 1]) == 1
    assert splits.repeated(found, [3, 0, 1]) == 0


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("Train Test Valid", "Train Valid Test"),
        ("TRAINING testing dev", "TRAINING dev testing"),
        ("train2017 val2017", "train2017 val2017"),
        ("train_images test-set", "train_images test-set"),
        ("trainset evaluation", "trainset evaluation"),
        ("train eval test", "train eval test"),
        ("cats dogs", ""),
        ("training_day test_tube", ""),
    ],
)
def test_usual_names_of_splits(names, found):
    assert " ".join(named_splits(names.split(), "here").values()) == found
    with pytest.raises(InputError, match="two splits for validation, "):
        named_splits(["val", "dev"], "here")


def put(folder, numbers, name="{:03}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for k in numbers:
        Image.fromarray(PICTURES[k]).save(folder / name.format(k))


def load(path, **more):
    return data.load(data.DataConfig(name=str(path), **more))


def test_a_folder_that_grows_moves_no_training_image(tmp_path):
    put(tmp_path, range(30))
    before = load(tmp_path)
    Image.fromarray(PICTURES[35]).save(tmp_path / "000a.png")
    after = load(tmp_path)
    assert set(before.train.names) <= set(after.train.names)
    assert sum(len(after.split(split)) for split in SPLITS) == 31
    other = load(tmp_path, draw_seed=1)
    assert other.test.names != after.test.names


def test_groups_stay_together(tmp_path):
    put(tmp_path, range(40), "film{0:03}.png")
    for path in sorted(tmp_path.iterdir()):
        number = int(path.stem[4:])
        path.rename(tmp_path / f"film{number // 5}_frame{number % 5}.png")
    dataset = load(tmp_path, group_by=r"film(\d+)")
    films = [{n.split("_")[0] for n in dataset.split(split).names} for split in SPLITS]
    assert sum(map(len, films)) == 8
    assert all(films)
    frames = load(tmp_path, group_by=r"frame\d")
    assert len({n.split("_")[1] for n in frames.test.names}) * 8 == len(frames.test)
    with pytest.raises(InputError, match=r"does not match film0_frame0\.png"):
        load(tmp_path, group_by="clip")
    with pytest.raises(InputError, match="are only 1 groups, too few"):
        load(tmp_path, group_by="f(i)lm")


def test_duplicates_across_splits_are_counted(tmp_path, capsys):
    put(tmp_path / "train", range(10))
    put(tmp_path / "val", [8, 20])
    put(tmp_path / "test", [8, 9, 21])
    dataset = load(tmp_path)
    assert dataset.found.duplicates == 2
    assert "2 pictures are in more than one split" in " ".join(capsys.readouterr().err.split())
