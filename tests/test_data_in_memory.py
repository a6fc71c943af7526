"""Datasets that are given in Python: arrays, tensors, datasets of torch and Hugging Face."""

import base64
import io
import re
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from limner import data
from limner.data import arrays, from_items, splits
from limner.data.config import Augmentation
from limner.data.kept import keep, kept_as
from limner.data.splits import HeldOut
from limner.errors import InputError
from limner.keywords import in_keywords

random = np.random.default_rng(0)
GREY = random.integers(0, 256, (60, 7, 5), dtype=np.uint8)
RGB = random.integers(0, 256, (60, 7, 5, 3), dtype=np.uint8)
LABELS = np.arange(60) % 3
PICTURES = [Image.fromarray(levels) for levels in GREY]


def equal(one, other):
    """Whether two datasets have the same images, labels, names and settings."""
    for split in data.SPLITS:
        a, b = one.split(split), other.split(split)
        assert torch.equal(a.levels, b.levels)
        assert a.names == b.names
        assert (a.labels is None) == (b.labels is None)
        assert a.labels is None or torch.equal(a.labels, b.labels)
    about = ("binarization", "draw_seed", "image_shape", "class_names", "augment", "is_binary")
    return all(getattr(one, name) == getattr(other, name) for name in about)


def everything(dataset):
    """All images as rows, sorted."""
    levels = torch.cat([dataset.split(split).levels for split in data.SPLITS])
    return sorted(map(bytes, levels.flatten(1).numpy()))


def training(dataset):
    return set(map(bytes, dataset.train.levels.flatten(1).numpy()))


def refusal(function, *given, **more):
    """The sentence with which images are refused; it names keywords, not flags."""
    with pytest.raises(InputError) as error:
        function(*given, **more)
    assert "--" not in str(error.value)
    return str(error.value)


def test_arrays_are_the_dataset_that_their_file_is(tmp_path):
    np.savez(tmp_path / "x.npz", images=RGB, labels=LABELS)
    for seed in (0, 3):
        config = data.DataConfig(name=str(tmp_path / "x.npz"), draw_seed=seed, size=(4, 6))
        found = data.from_arrays(RGB, LABELS, seed=seed, size=(4, 6))
        assert equal(found, data.load(config))
        assert found.source is None
        assert data.load(config).source == config


@pytest.mark.parametrize(
    "images",
    [
        GREY[..., None],
        GREY[:, None],
        GREY.astype(">u2"),
        (GREY / 255).astype(">f4"),
        GREY / 255,
        torch.from_numpy(GREY),
        torch.from_numpy(GREY)[:, None].float() / 255,
        (torch.from_numpy(GREY).double() / 255).requires_grad_(),
        torch.from_numpy(np.repeat(GREY, 2, axis=1))[:, ::2],
        list(GREY),
        [torch.from_numpy(image) for image in GREY],
        np.broadcast_to(GREY[..., None], (60, 7, 5, 1)),
    ],
)
def test_any_kind_of_array_has_the_same_images(images):
    ends = (0, 255) if getattr(images, "dtype", None) == np.dtype(">u2") else None
    dataset = data.from_arrays(images, range=ends)
    assert everything(dataset) == sorted(map(bytes, GREY.reshape(60, -1)))
    assert dataset.image_shape == (1, 7, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_keep_their_precision(dtype):
    images = torch.linspace(0, 1, 60).view(-1, 1, 1).expand(-1, 7, 5).to(dtype)
    found = everything(data.from_arrays(images))
    assert found == sorted(bytes([round(255 * x)] * 35) for x in images[:, 0, 0].tolist())


def test_bool_images_are_binary():
    dataset = data.from_arrays(GREY > 127)
    assert dataset.is_binary
    assert dataset.binarization == "none"
    assert data.from_arrays(GREY, binarization="static", seed=5).draw_seed == 5


def test_memory_is_not_shared(tmp_path):
    np.save(tmp_path / "x.npy", RGB)
    for images in (RGB.copy(), np.load(tmp_path / "x.npy", mmap_mode="c")):
        before = images.copy()
        dataset = data.from_arrays(images, validation=images, test=images)
        assert np.array_equal(images, before)
        images[:] = 0
        assert np.array_equal(dataset.train.levels.permute(0, 2, 3, 1), before)
    frozen = RGB.copy()
    frozen.setflags(write=False)
    assert len(data.from_arrays(frozen).train) > 30


def test_training_images_stay_when_images_are_added_and_equal_ones_stay_together():
    keys = [bytes([i % 256, i // 256]) for i in range(3000)]
    for held_out in (HeldOut(0.2, 0.3), HeldOut(50, 0.1), HeldOut(0.1, 50), HeldOut(70, 30)):
        for missing in (["validation", "test"], ["validation"], ["test"]):
            few = splits.cut(keys[:400], missing, 0, "x", held_out=held_out)
            many = splits.cut(keys, missing, 0, "x", held_out=held_out)
            assert not many[:400][few == 0].any()
            twice = splits.cut(keys[:400] * 2, missing, 0, "x", held_out=held_out)
            assert (twice[:400] == twice[400:]).all()


def test_shares_and_numbers():
    keys = [bytes([i % 256, i // 256]) for i in range(20_000)]

    def counts(missing, *amounts):
        found = splits.cut(keys, missing, 0, "x", held_out=HeldOut(*amounts))
        return np.bincount(found, minlength=3)[1:] / 20_000

    both = ["validation", "test"]
    tolerance = 4 * (0.25 / 20_000) ** 0.5
    assert np.abs(counts(both, 0.25, 0.4) - [0.25, 0.4]).max() < tolerance
    assert np.array_equal(counts(both, 300, 5000), [0.015, 0.25])
    assert np.array_equal(counts(both, 300, 0.1)[:1], [0.015])
    assert np.array_equal(counts(["validation"], 300, 0.1), [0.015, 0])
    assert np.array_equal(
        counts(both, 0.1, 0.1), np.bincount(splits.cut(keys, both, 0, "x"))[1:] / 20_000
    )
    dataset = data.from_arrays(GREY, validation=7, test=np.int64(11))
    assert [len(dataset.split(split)) for split in data.SPLITS] == [42, 7, 11]
    own = data.from_arrays(GREY[:30], validation=0.95, test=GREY[30:])
    assert 25 <= len(own.validation) < 30
    assert everything(own) == everything(dataset)


def test_splits_of_their_own_and_words_as_labels(capsys):
    words = np.array(["cat", "ant", "bee"])[LABELS]
    dataset = data.from_arrays(
        GREY[:40],
        list(words[:40]),
        validation=(GREY[40:50], words[40:50]),
        test=(GREY[50:], words[50:]),
    )
    assert dataset.class_names == ("ant", "bee", "cat")
    assert np.array_equal(np.array(dataset.class_names)[dataset.test.labels], words[50:])
    assert torch.equal(dataset.test.levels[:, 0], torch.from_numpy(GREY[50:]))
    assert not capsys.readouterr().err
    assert data.from_arrays(GREY[:40], words[:40], test=GREY[38:]).train.labels is None
    error = capsys.readouterr().err
    assert "labels are ignored, because test has none" in error
    assert "2 pictures are in more than one split" in error


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.tolist(),
        torch.from_numpy(LABELS),
        [torch.tensor(k) for k in LABELS],
        [np.int8(k) for k in LABELS],
        np.eye(3)[LABELS],
        LABELS.astype(object),
        LABELS.astype(float),
    ],
)
def test_labels_of_any_kind(labels):
    dataset, usual = data.from_arrays(GREY, labels), data.from_arrays(GREY, LABELS)
    assert equal(dataset, usual)
    assert equal(data.from_dataset(list(zip(GREY, list(labels), strict=True))), usual)


@pytest.mark.parametrize(
    ("images", "more", "sentence"),
    [
        (GREY / 127.5 - 1, {}, r"values -1 to 1 .*outside \[0, 1\]; pass range=\(-1, 1\)"),
        (GREY.astype(int), {}, r"0 to 255 \(int64\); pass range=\(0, 255\)"),
        (np.where(GREY > 9, np.nan, 0.5), {}, "NaN or infinite"),
        (GREY // 200, {}, r"almost black .*; pass range=\(0, 1\), or make it bool"),
        (GREY[0], {}, r"shape=\(7, 5\) for one image"),
        (RGB[0], {}, "one image with 3 channels"),
        (GREY[:1], {}, "1 training image, too few to split; give at least 3"),
        (GREY[:0], {}, r"no set of images; give them as \[N, H, W\]"),
        ([], {}, "no set of images"),
        (np.zeros((9, 3, 32, 3)), {}, r"pass shape=\(3, 32, 3\), or shape=\(32, 3, 3\)"),
        (GREY[:1].repeat(9, 0), {}, "9 training images of images are only 1 different"),
        (GREY + 1j, {}, "real numbers"),
        ([GREY[0], GREY[1, :3]], {}, "different shapes or types"),
        (np.array([None]), {}, "different shapes or types"),
        (PICTURES, {}, "give them to from_dataset"),
        (PICTURES[0], {}, "of type Image"),
        ("x.npz", {}, r"limner.data.load\(DataConfig"),
        (TensorDataset(torch.zeros(3)), {}, "dataset of images to from_dataset"),
        (torch.from_numpy(GREY).to_sparse(), {}, "dense tensor"),
        (torch.zeros(9, 7, 5, device="meta"), {}, "dense tensor"),
        (GREY, {"labels": LABELS[:9]}, r"shape \(9,\) for 60 images"),
        (GREY, {"labels": {1}}, "labels is of type set"),
        (GREY, {"validation": 0}, "validation=0 leaves no images to choose"),
        (GREY, {"test": 0.0}, "test=0 leaves no images to measure"),
        (GREY, {"test": 1.0}, "test=1.0 is neither"),
        (GREY, {"test": -3}, "test=-3 is neither"),
        (GREY, {"test": float("nan")}, "test=nan is neither"),
        (GREY, {"validation": True}, "validation=True is neither"),
        (GREY, {"validation": 0.5, "test": 0.5}, "leave no images to train on"),
        (GREY, {"validation": 40, "test": 20}, "validation=40 and test=20 of 60 images"),
        (GREY, {"test": GREY[:, :3]}, "splits of images differ in shape.*pass size"),
        (GREY, {"test": RGB}, 'pass colour="grey" or "rgb"'),
        (GREY, {"size": 0}, "^size must be greater than 0"),
        (GREY, {"seed": -1}, "^seed must be greater than or equal to 0"),
        (GREY, {"augment": Augmentation(shift=9)}, "augment.shift=9 moves"),
    ],
)  # fmt: skip
def test_bad_arrays_are_refused_in_a_sentence_of_keywords(images, more, sentence):
    assert re.search(sentence, refusal(data.from_arrays, images, **more))


def test_more_than_fits_is_refused_before_it_is_read(monkeypatch):
    many = np.broadcast_to(np.uint8(0), (2**22, 64, 64))
    assert "limit is 8 GiB" in refusal(data.from_arrays, many)
    monkeypatch.setattr("limner.data.dataset.MAX_BYTES", 60 * 34)
    assert "use fewer or smaller images" in refusal(data.from_dataset, PICTURES)


Pair = namedtuple("Pair", "target x")
FORMS = {
    "pairs": lambda image, label: (image, label),
    "lists": lambda image, label: [image, label],
    "columns": lambda image, label: {"id": 7, "Img": image, "label": label},
    "any image": lambda image, label: {"photo": image, "y": label},
    "named": lambda image, label: Pair(label, image),
}


@pytest.mark.parametrize("form", FORMS)
def test_items_of_any_form_are_the_same_dataset(form):
    usual = data.from_arrays(RGB, LABELS)
    for images in (RGB, torch.from_numpy(RGB).permute(0, 3, 1, 2)):
        items = [FORMS[form](image, int(k)) for image, k in zip(images, LABELS, strict=True)]
        assert equal(data.from_dataset(items), usual)
    pictures = [FORMS[form](Image.fromarray(x), k) for x, k in zip(RGB, LABELS, strict=True)]
    found = data.from_dataset(pictures)
    assert everything(found) == everything(usual)
    assert len(found.train.labels.unique()) == 3


def test_datasets_of_torch():
    tensors = TensorDataset(torch.from_numpy(GREY), torch.from_numpy(LABELS))
    usual = data.from_arrays(GREY, LABELS)
    assert equal(data.from_dataset(tensors), usual)
    assert equal(data.from_dataset(GREY), data.from_arrays(GREY))
    tensors.classes = ["a", "b", "c"]
    part = data.from_dataset(Subset(Subset(tensors, range(60)), range(60)))
    assert part.class_names == ("a", "b", "c")
    assert equal(replace(part, class_names=None), usual)
    given = data.from_dataset(Subset(tensors, range(40)), test=Subset(tensors, range(40, 60)))
    assert torch.equal(given.test.labels, torch.from_numpy(LABELS[40:]))
    by_name = {"train": Subset(tensors, range(40)), "test": Subset(tensors, range(40, 60))}
    assert equal(data.from_dataset(by_name), given)


def test_the_split_depends_neither_on_size_nor_on_colour():
    usual = data.from_dataset(list(zip(GREY, range(60), strict=True)))
    other = data.from_dataset(list(zip(GREY, range(60), strict=True)), size=3, colour="rgb")
    assert other.image_shape == (3, 3, 3)
    assert torch.equal(usual.test.labels, other.test.labels)


def test_pictures_are_read_as_a_viewer_shows_them(capsys):
    indexed = [picture.convert("P") for picture in PICTURES]
    assert everything(data.from_dataset(indexed)) == everything(data.from_arrays(GREY))
    turned = Image.fromarray(GREY[0])
    turned.getexif()[0x0112] = 6
    file = io.BytesIO()
    turned.save(file, "PNG", exif=turned.getexif())
    upright = [np.rot90(levels, -1) for levels in GREY[1:]]
    dataset = data.from_dataset([Image.open(file), *upright])
    assert bytes(np.rot90(GREY[0], -1)) in everything(dataset)
    red = Image.new("RGB", (5, 7), "red")
    for pictures in ([*PICTURES, red], [red, *PICTURES]):
        coloured = data.from_dataset(pictures)
        assert everything(coloured) == everything(
            data.from_arrays(np.stack([np.asarray(x.convert("RGB")) for x in pictures]))
        )
    assert 'colour="grey" makes all grey' in capsys.readouterr().err
    assert data.from_dataset(PICTURES, test=[red]).image_shape == (3, 7, 5)
    dark = [Image.fromarray(levels.astype(np.uint16) * 16) for levels in GREY]
    assert "pass range=(0, 4095) if" in refusal(data.from_dataset, dark)
    assert data.from_dataset(dark, range=(0, 4080)).is_binary is False


def test_images_of_several_sizes_need_a_size(monkeypatch):
    mixed = [*PICTURES, *(picture.resize((10, 14)) for picture in PICTURES)]
    sentence = refusal(data.from_dataset, mixed)
    assert "2 sizes from 5 x 7 to 10 x 14" in sentence
    assert "pass size, for example size=4, or (height, width)" in sentence
    dataset = data.from_dataset(mixed, size=(6, 4), fit="pad")
    assert dataset.image_shape == (1, 6, 4)
    assert len(everything(dataset)) == 120
    monkeypatch.setattr(from_items, "_ENOUGH", 80)
    assert "20 of 10 x 14" in refusal(data.from_dataset, mixed)


class Endless(IterableDataset):
    def __iter__(self):
        yield from iter(lambda: GREY[0], None)


class Broken:
    """Items whose own code fails."""

    def __len__(self):
        return 9

    def __getitem__(self, place):
        raise ZeroDivisionError


def test_errors_in_a_dataset_are_its_own():
    with pytest.raises(ZeroDivisionError):
        data.from_dataset(Broken())


@pytest.mark.parametrize(
    ("items", "sentence"),
    [
        (iter(PICTURES), r"list_iterator, which has no length .* list\(...\) of a finite iterable"),
        (Endless(), "Endless, which has no length"),
        (DataLoader([1]), "dataset of a DataLoader"),
        ("photos", "of type str"),
        ([], "dataset is empty"),
        (["a.png"], r"dataset\[0\] is of type str, which is no image"),
        ([(GREY[0], 1, 2)], r"dataset\[0\] has 3 parts; give images or pairs"),
        ([{"a": 1, "b": 2}], "has the keys a, b"),
        ([{"a": GREY[0], "b": GREY[0]}], "has the keys a, b"),
        ({"some": PICTURES}, "no split train; it has some"),
        ([RGB[:2]], r"shape \(1, 2, 7, 5, 3\)"),
        ([GREY[0].ravel()], "shape"),
        (list(GREY / 127.5 - 1), r"dataset has values -1 to 1 .*pass range=\(-1, 1\)"),
        (list(GREY // 200), r"nearly black.*range=\(0, 1\) if 1 is white, or range=\(0, 255\)"),
        ([*PICTURES, None], "1 empty: row 60.*skip_damaged=True"),
        ([None], "no file is left"),
        ([Image.fromarray(GREY[0].astype(np.float32))], "give range with the values"),
        (PICTURES[:2], "2 training images, too few"),
    ],
)  # fmt: skip
def test_bad_datasets_are_refused_in_a_sentence_of_keywords(items, sentence):
    assert re.search(sentence, refusal(data.from_dataset, items))


def test_damaged_pictures_can_be_left_out(capsys):
    file = io.BytesIO()
    PICTURES[0].resize((64, 64)).save(file, "PNG")
    damaged = Image.open(io.BytesIO(file.getvalue()[:-1000]))
    labels = [9, *LABELS]
    items = list(zip([damaged, *PICTURES], labels, strict=True))
    dataset = data.from_dataset(items, skip_damaged=True)
    assert equal(dataset, data.from_dataset(items[1:]))
    assert "skipped 1" in capsys.readouterr().err


def test_a_dataset_of_hugging_face():
    import datasets

    features = {
        "id": datasets.Value("int64"),
        "photo": datasets.Image(),
        "kind": datasets.ClassLabel(names=["cat", "ant", "bee"]),
    }
    rows = {"id": list(range(60)), "photo": PICTURES, "kind": LABELS.tolist()}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    found = data.from_dataset(table)
    assert found.class_names == ("cat", "ant", "bee")
    assert everything(found) == everything(data.from_arrays(GREY))
    assert equal(data.from_dataset(table.with_format("torch")), found)
    splits = datasets.DatasetDict(train=table, test=table.select(range(5)))
    assert len(data.from_dataset(splits).test) == 5
    table.set_transform(
        lambda rows: {"x": [np.asarray(x)[:4] for x in rows["photo"]], "y": rows["kind"]}
    )
    assert data.from_dataset(table).image_shape == (1, 4, 5)


def datasets_to_keep():
    words = np.array(["cat", "ant", "bee"])[LABELS]
    own = data.from_arrays(RGB, words, seed=3)
    yield own
    yield replace(own, class_names=("z", "b", "a", "unused"))
    yield data.from_arrays(GREY // 20, range=(0, 255), binarization="static", seed=7)
    yield data.from_arrays(GREY[:, :3, :3], augment=Augmentation(flip=True, shift=1))
    slim = random.integers(0, 256, (40, 3, 32, 3), dtype=np.uint8)
    yield data.from_arrays(slim, shape=(3, 32, 3))
    named = {}
    for split in data.SPLITS:
        images = own.split(split)
        named[split] = replace(images, names=tuple(f"{split} {i}" for i in range(len(images))))
    yield replace(own, **named)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_kept_dataset_is_the_same_when_it_is_loaded(tmp_path, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(arrays, "MOST_IN_MEMORY", 0)
    for dataset in datasets_to_keep():
        keep(dataset, tmp_path / "images.npz")
        config = kept_as(dataset, tmp_path / "images.npz")
        assert equal(data.load(config), dataset)
        assert [path.name for path in tmp_path.iterdir()] == ["images.npz"]


def test_a_file_that_cannot_be_kept_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "images.npz"
    keep(data.from_arrays(GREY), path)
    before = path.read_bytes()

    def full(file, **arrays):
        file.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert "No space left" in refusal(keep, data.from_arrays(RGB), path)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["images.npz"]
    assert "must end in .npz" in refusal(keep, data.from_arrays(RGB), tmp_path / "x.npy")


def test_a_dataset_shows_itself():
    words = np.array(["cat", "<ant>", "bee"])[LABELS]
    dataset = data.from_arrays(
        GREY, words, validation=6, test=4, binarization="dynamic", name="<b>"
    )
    assert repr(dataset) == (
        "<Dataset <b>: 50 / 6 / 4 images of 1 x 7 x 5, 3 classes, dynamic binarization>"
    )
    html = dataset._repr_html_()
    for text in ("&lt;b&gt;", "&lt;ant&gt;, bee, cat", "5 x 7 grey", ">50</td>"):
        assert text in html
    assert "<ant>" not in html
    shown = re.search('base64,([^"]*)', html)
    strip = Image.open(io.BytesIO(base64.b64decode(shown[1])))
    first = np.asarray(
        strip.convert("L").crop((0, 0, 46, 64)).resize((5, 7), Image.Resampling.NEAREST)
    )
    assert np.array_equal(first, dataset.train.levels[0, 0])
    assert data.from_arrays(RGB)._repr_html_().count("<td") == 5


def test_flags_become_keywords():
    assert in_keywords("pass --data.range -1 1.") == "pass range=(-1, 1)."
    assert in_keywords("pass --data.size 64, or --data.draw-seed.") == "pass size=64, or seed."
    assert in_keywords("lower --batch-size 3") == "lower batch_size=3"
    command = "pass resume=True, or run limner train --resume --out some/run, size=3."
    assert in_keywords(command.replace("size=3", "--data.size 3")) == command


def test_the_example_of_the_documentation_runs():
    page = Path(__file__).parents[1].joinpath("docs/own-images.md").read_text(encoding="utf-8")
    names = {"images": GREY, "labels": LABELS, "torch_dataset": list(zip(RGB, LABELS, strict=True))}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    assert names["faces"].image_shape == (3, 32, 32)


def test_given_images_can_be_trained_on():
    dataset = data.from_arrays(GREY > 100)
    batch = data.TrainingBatches(dataset, "bernoulli", 8, seed=0).batch(0, 0)
    assert batch.shape == (8, 1, 7, 5)
    assert set(batch.unique().tolist()) == {0, 1}
