"""Static MNIST, OMNIGLOT and the Hub, with small files in their formats."""

import hashlib
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from limner import data
from limner.commands.options import Images
from limner.data import hub, static_mnist
from limner.data.omniglot import Omniglot
from limner.data.static_mnist import StaticMNIST
from limner.errors import InputError
from limner.training.runs import Run

GREY = np.arange(60 * 5 * 4, dtype=np.uint8).reshape(60, 5, 4)


def load(path, **more):
    return data.load(data.DataConfig(name=str(path), **more))


def test_static_mnist_from_text_and_from_npz(tmp_path, monkeypatch):
    bits = np.random.RandomState(0).rand(6, 784) > 0.5
    lines = "\n".join(" ".join(map(str, row)) for row in bits.astype(int)) + "\n"
    for word in ("train", "valid", "test"):
        (tmp_path / f"binarized_mnist_{word}.amat").write_text(lines)
    with pytest.raises(InputError, match="not hold Larochelle's files: SHA-1 of the train"):
        load("static-mnist", root=tmp_path)
    small = StaticMNIST(sha1=(hashlib.sha1(lines.encode()).hexdigest(),) * 3)
    monkeypatch.setattr(static_mnist, "StaticMNIST", lambda: small)
    text = load("static-mnist", root=tmp_path)
    assert text.binarization == "static"
    assert text.is_binary
    assert torch.equal(data.frozen(text, "test", "bernoulli").flatten(1), torch.tensor(bits) * 1.0)
    splits = {f"{word}_data": bits * 1.0 for word in ("train", "valid", "test")}
    np.savez(tmp_path / "binarized_mnist.npz", **splits, objects=np.array([None]))
    assert torch.equal(load("static-mnist", root=tmp_path).test.levels, text.test.levels)
    np.savez(tmp_path / "binarized_mnist.npz", train=bits)
    with pytest.raises(InputError, match="valid_data"):
        load("static-mnist", root=tmp_path)
    (tmp_path / "binarized_mnist.npz").unlink()
    for content, message in (("0 1 2", "other than 0, 1 and blanks"), ("0 1", "784")):
        (tmp_path / "binarized_mnist_test.amat").write_text(content)
        with pytest.raises(InputError, match=message):
            load("static-mnist", root=tmp_path)
    (tmp_path / "binarized_mnist_test.amat").unlink()
    with pytest.raises(InputError, match="neither"):
        load("static-mnist", root=tmp_path)


def test_omniglot_is_turned_shuffled_and_split(tmp_path):
    load = Omniglot(validation=2).load
    images = np.random.RandomState(0).randint(0, 256, (7, 28, 28)).astype(np.uint8)
    columns = np.stack([image.ravel(order="F") for image in images], axis=1) / 255
    one_hot = np.eye(7)[:3, :].copy()
    path = tmp_path / "chardata.mat"
    savemat(path, {"data": columns, "testdata": columns, "target": one_hot})
    dataset = load(tmp_path)
    order = np.random.RandomState(123).permutation(7)
    assert np.array_equal(dataset.validation.levels[:, 0], images[order[-2:]])
    assert np.array_equal(dataset.train.levels[:, 0], images[order[:-2]])
    assert np.array_equal(dataset.test.levels[:, 0], images)
    assert dataset.train.labels.tolist() == one_hot.argmax(0)[order[:-2]].tolist()
    savemat(path, {"data": columns})
    with pytest.raises(InputError, match="testdata"):
        load(tmp_path)
    path.write_bytes(b"no MATLAB file")
    with pytest.raises(InputError, match="MATLAB"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"has no chardata\.mat"):
        load(tmp_path / "elsewhere")


class Table(list):
    """As much of a `datasets` table as the reader uses."""

    ClassLabel = type("ClassLabel", (), {"names": ["no", "yes"]})
    features = {"id": 0, "picture": type("Image", (), {})(), "class": ClassLabel()}  # noqa: RUF012

    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def test_hub_datasets_by_their_first_columns_of_images_and_labels(tmp_path, monkeypatch):
    rows = [{"picture": Image.fromarray(GREY[i]), "class": i % 2} for i in range(20)]
    library = types.ModuleType("datasets")
    monkeypatch.setitem(sys.modules, "datasets", library)
    library.load_dataset = lambda name, cache_dir: {"train": Table(rows), "test": Table(rows[:4])}
    dataset = load("hub:owner/name")
    levels = torch.cat([dataset.split(split).levels for split in ("train", "validation")])
    assert sorted(levels.flatten(1).tolist()) == sorted(GREY[:20].reshape(20, -1).tolist())
    assert dataset.found.duplicates == 4
    assert dataset.class_names == ("no", "yes")
    assert np.array_equal(dataset.test.levels[:, 0], GREY[:4])
    library.load_dataset = lambda name, cache_dir: {"all": Table(rows)}
    with pytest.raises(InputError, match="no split"):
        load("hub:name")
    library.load_dataset = lambda name, cache_dir: 1 / 0
    with pytest.raises(InputError, match="could not be loaded"):
        load("hub:name")


def test_hub_names_and_the_missing_extra(monkeypatch):
    for name in ("hub:", "hub:../x", "hub:/etc", "hub:a/b/c", "hub:a b", "hub:.hidden"):
        with pytest.raises(InputError, match="not the name of a Hub dataset"):
            load(name)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install .*\[hub\]'"):
        hub.load_hub("owner/name", None, data.DataConfig())


def test_size_fit_and_colour_apply_to_built_in_images():
    full = data.load(data.DataConfig(name="digits"))
    small = data.load(data.DataConfig(name="digits", size=(4, 6), fit="pad", colour="rgb"))
    assert small.image_shape == (3, 4, 6)
    assert small.class_names == full.class_names
    for split in data.SPLITS:
        images, expected = small.split(split), full.split(split)
        assert torch.equal(images.labels, expected.labels)
        for image, digit in zip(images.levels[:20].numpy(), expected.levels.numpy(), strict=False):
            page = np.zeros((4, 6), np.uint8)
            page[:, 1:5] = Image.fromarray(digit[0]).resize((4, 4), Image.Resampling.LANCZOS)
            assert np.array_equal(image, np.stack([page] * 3))
    same = data.load(data.DataConfig(name="digits", size=8, colour="grey"))
    assert same.train.levels is full.train.levels


SETTINGS = {"range": (0, 255), "shape": (5, 4), "group_by": "a", "test_from": "train"}


@pytest.mark.parametrize(
    ("kind", "ignored"),
    [
        ("digits", SETTINGS),
        ("cifar100", SETTINGS),
        ("own.npy", ["group_by", "test_from"]),
        ("own", ["shape", "test_from"]),
        ("hub:own", ["shape", "test_from"]),
    ],
)
def test_a_setting_that_a_source_would_ignore_is_refused_by_its_flag(kind, ignored, tmp_path):
    (tmp_path / "own").mkdir()
    np.save(tmp_path / "own.npy", GREY)
    name = str(tmp_path / kind) if kind.startswith("own") else kind
    for setting in ignored:
        with pytest.raises(InputError, match=f"--data.{setting.replace('_', '-')} has no meaning"):
            load(name, **{setting: SETTINGS[setting]})


@pytest.mark.parametrize(
    "own",
    [
        {"name": "own.npy", "range": (0, 1), "shape": (8, 8)},
        {"name": "cifar10", "test_from": "train"},
    ],
)
def test_settings_of_a_run_that_other_images_would_ignore_are_left_out(own, monkeypatch):
    own = data.DataConfig(draw_seed=3, **own)
    run = types.SimpleNamespace(own_data=own, image_shape=(1, 8, 8), on=lambda found: found)
    monkeypatch.setattr(Run, "open", lambda name: run)
    assert Images(name="digits").open("run") == data.DataConfig(name="digits", draw_seed=3)
