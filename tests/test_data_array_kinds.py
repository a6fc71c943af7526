"""Arrays as people save them: ranges of values, layouts, labels, tensors and tables."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from limner import data
from limner.data import array_images, arrays, numpy_files
from limner.data.layouts import layout_of
from limner.data.values import as_levels, fitting
from limner.errors import InputError

R = np.random.RandomState(0)
GREY = R.randint(0, 256, (40, 12, 10)).astype(np.uint8)
RGB = R.randint(0, 256, (40, 12, 10, 3)).astype(np.uint8)
CLASSES = np.arange(40) % 4


def load(path, **more):
    return data.load(data.DataConfig(name=str(path), **more))


def pictures(dataset):
    """All images [N, C, H, W] in order of their bytes, which no split changes."""
    levels = torch.cat([dataset.split(split).levels for split in data.SPLITS]).numpy()
    return np.array(sorted(levels, key=lambda image: image.tobytes()))


def ordered(images):
    """Images [N, H, W] or [N, H, W, C] as `pictures` has them."""
    images = images[..., None] if images.ndim == 3 else images
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return np.array(sorted(images, key=lambda image: image.tobytes()))


def saved(path, array):
    np.save(path / "own.npy", array)
    return path / "own.npy"


def by_hand(array, low, high):
    """Levels by the definition, one value at a time."""
    levels = [round((float(value) - low) * 255 / (high - low)) for value in array.ravel()]
    return np.array(levels, np.uint8).reshape(array.shape)


KINDS = {
    "float 0..255": (GREY.astype(np.float32), (0, 255)),
    "uint16": (R.randint(0, 65536, (40, 12, 10)).astype(np.uint16), (0, 65535)),
    "big-endian": (R.randint(0, 65536, (40, 12, 10)).astype(">u2"), (0, 65535)),
    "12 bits": (R.randint(0, 4096, (40, 12, 10)).astype(np.uint16), (0, 4095)),
    "int64 of levels": (GREY.astype(np.int64), (0, 255)),
    "zero and one": ((GREY > 99).astype(np.uint8), (0, 1)),
    "sixteen": ((GREY // 16).astype(np.uint8), (0, 15)),
    "-1..1": (R.uniform(-1, 1, (40, 12, 10)).astype(np.float32), (-1, 1)),
    "-0.5..0.5": (R.uniform(-0.5, 0.5, (40, 12, 10)), (-0.5, 0.5)),
    "int8": (R.randint(-128, 128, (40, 12, 10)).astype(np.int8), (-128, 127)),
    "float16": (R.uniform(-1, 1, (40, 12, 10)).astype(np.float16), (-1, 1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_ranges_are_refused_with_the_flag_and_read_with_it(kind, tmp_path):
    array, ends = KINDS[kind]
    path = saved(tmp_path, array)
    flag = f"--data.range {ends[0]} {ends[1]}"
    with pytest.raises(InputError, match=flag):
        load(path)
    assert np.array_equal(pictures(load(path, range=ends)), ordered(by_hand(array, *ends)))


@pytest.mark.parametrize(
    ("array", "levels"),
    [
        (GREY, GREY),
        (GREY > 99, by_hand(GREY > 99, 0, 1)),
        (GREY / 255, GREY),
        ((GREY / 255).astype(np.float16), GREY),
        (np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 2), np.uint8)),
    ],
)
def test_ranges_that_need_no_flag(array, levels):
    assert np.array_equal(array_images.levels_of(array, "x").numpy()[:, 0], levels)


def test_values_outside_the_range_and_values_that_are_no_numbers(tmp_path):
    with pytest.raises(InputError, match=r"has values -1 to 1 .*; pass --data.range -1 1\.$"):
        load(saved(tmp_path, np.linspace(-1, 1, 360).reshape(10, 6, 6)))
    with pytest.raises(InputError, match=r"-1 to 1 .* outside --data.range 0 1; .* -1 1\.$"):
        load(tmp_path / "own.npy", range=(0, 1))
    holes = GREY / 255
    holes[3, 2, 1], holes[-1, 0, 0] = np.nan, -np.inf
    with pytest.raises(InputError, match="2 values that are NaN or infinite"):
        load(saved(tmp_path, holes))
    with pytest.raises(InputError, match="complex128"):
        load(saved(tmp_path, GREY * 1j))


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-6, 1e6))
def test_the_range_that_a_message_names_covers_the_values(low, span):
    assert fitting(-100, 90) == (-128, 127)
    ends = fitting(low, low + span)
    slack = 1e-6 * (ends[1] - ends[0])
    assert ends[0] - slack <= low
    assert ends[1] + slack >= low + span
    assert data.DataConfig(range=ends).range == tuple(map(float, ends))


ROUNDED = [
    ((-1e-7, 1.0), None),
    ((0.0, 1 + 9e-7), None),
    ((-1e-7, 255.0), (0, 255)),
    ((0.0, 255.0001), (0, 255)),
    ((-1.000001, 1.000001), (-1, 1)),
    ((-1e-6, 3.0), (0, 3)),
]


@pytest.mark.parametrize(("values", "ends"), ROUNDED)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_values_that_are_outside_by_rounding_belong_to_the_range(values, ends, kind, tmp_path):
    path = saved(tmp_path, np.array(values, kind).repeat(50).reshape(25, 2, 2))
    if ends:
        with pytest.raises(InputError, match=rf"--data.range {ends[0]} {ends[1]}\.$"):
            load(path)
    levels = as_levels(np.array(values, kind), ends)
    assert levels.tolist() == [0, 255]


def test_values_that_are_outside_by_more_than_rounding_are_refused(tmp_path):
    assert as_levels(np.array([-1e-5, 1]), None) is None
    assert as_levels(np.array([0, 1.00001]), None) is None
    assert as_levels(np.array([0, 10**7 + 1]), (0, 10**7)) is None


ALPHA = R.randint(0, 256, (40, 12, 10, 1)).astype(np.uint8)


def over_white(colours, alpha):
    return colours * (alpha / 255.0) + 255 * (1 - alpha / 255.0)


@pytest.mark.parametrize("colours", [GREY[..., None], RGB])
@pytest.mark.parametrize("first", [False, True])
def test_alpha_is_composited_on_white(colours, first):
    array = np.concatenate([colours, ALPHA], axis=3)
    array = array.transpose(0, 3, 1, 2) if first else array
    levels = array_images.levels_of(array, "x").numpy().transpose(0, 2, 3, 1)
    assert np.abs(levels - over_white(colours, ALPHA)).max() <= 0.5 + 1e-9


LAYOUTS = {
    "flat": (GREY.reshape(40, -1), (12, 10), GREY),
    "flat RGB": (RGB.reshape(40, -1), (12, 10, 3), RGB),
    "flat, channels first": (RGB.transpose(0, 3, 1, 2).reshape(40, -1), (3, 12, 10), RGB),
    "flat columns": (np.ascontiguousarray(GREY.reshape(40, -1).T), (12, 10), GREY),
    "images last": (GREY.transpose(1, 2, 0), (12, 10), GREY),
    "images last, Fortran": (np.asfortranarray(GREY.transpose(1, 2, 0)), (12, 10), GREY),
    "images last, RGB": (RGB.transpose(1, 2, 3, 0), (12, 10, 3), RGB),
    "films": (GREY.reshape(8, 5, 12, 10), (12, 10), GREY),
    "channels last": (RGB, (12, 10, 3), RGB),
    "channels first": (RGB.transpose(0, 3, 1, 2), (12, 10, 3), RGB),
    "colour of a stated size": (RGB, (12, 10), RGB),
}


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("case", LAYOUTS)
def test_a_stated_shape_resolves_the_axes(case, suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_files, "BLOCK_BYTES", 1000)
    array, shape, images = LAYOUTS[case]
    path = tmp_path / f"own.{suffix}"
    np.save(path, array) if suffix == "npy" else np.savez(path, array)
    assert np.array_equal(pictures(load(path, shape=shape)), ordered(images))


AMBIGUOUS = {
    (48, 64, 3): ("--data.shape 48 64 3", "--data.shape 64 3"),
    (28, 28, 1000): ("--data.shape 28 28", "--data.shape 28 1000"),
    (28, 28, 40): ("--data.shape 28 28", "--data.shape 28 40"),
    (48, 64, 1000): ("--data.shape 48 64", "--data.shape 64 1000"),
    (32, 32, 3, 500): ("--data.shape 32 32 3",),
    (1000, 784): ("--data.shape 28 28",),
    (1000, 3072): ("--data.shape 32 32 3", "--data.shape 3 32 32"),
    (1000, 100, 7): (),
    (9, 3, 32, 3): ("--data.shape 3 32 3", "32 3 3"),
}


@pytest.mark.parametrize("shape", AMBIGUOUS)
def test_ambiguous_axes_are_refused_with_the_flag(shape):
    flags = AMBIGUOUS[shape]
    if not flags:
        assert layout_of(shape, None, "x").number == shape[0]
        return
    with pytest.raises(InputError) as refused:
        layout_of(shape, None, "x")
    for flag in flags:
        assert flag in str(refused.value)
        wanted = tuple(map(int, flag.removeprefix("--data.shape ").split()))
        assert layout_of(shape, wanted, "x").number * np.prod(wanted) * 3 >= np.prod(shape)


def test_one_colour_image_or_grey_images():
    array = RGB[0]
    one = array_images.levels_of(array, "x", data.DataConfig(shape=(12, 10, 3)))
    assert np.array_equal(one.numpy(), array.transpose(2, 0, 1)[None])
    rows = array_images.levels_of(array, "x", data.DataConfig(shape=(10, 3)))
    assert np.array_equal(rows.numpy(), array[:, None])


def test_a_shape_that_does_not_fit_is_refused(tmp_path):
    path = saved(tmp_path, GREY.reshape(40, -1))
    with pytest.raises(InputError, match="120 values"):
        load(path, shape=(11, 11))
    with pytest.raises(InputError, match=r"--data\.shape 12 10 3, or 3 12 10"):
        load(saved(tmp_path, RGB.reshape(40, -1)), shape=(12, 10))


def test_size_fit_and_colour_apply_to_arrays(tmp_path):
    board = np.indices((12, 10)).sum(0) % 2 * 255
    boards = np.stack([board, 255 - board]).astype(np.uint8)
    small = array_images.levels_of(boards, "x", data.DataConfig(size=(6, 5), colour="rgb"))
    assert small.shape == (2, 3, 6, 5)
    assert np.abs(small.numpy()[:, :, 1:-1, 1:-1].astype(int) - 128).max() <= 2
    path = saved(tmp_path, RGB)
    grey = RGB @ np.array([0.299, 0.587, 0.114])
    found = array_images.levels_of(RGB, "x", data.DataConfig(colour="grey")).numpy()[:, 0]
    assert np.abs(found - grey).max() <= 0.5 + 1e-9
    assert load(path, size=8, fit="pad").image_shape == (3, 8, 8)


# Keys and labels


def keyed(path, save=np.savez, **arrays):
    save(path / "own.npz", **arrays)
    return path / "own.npz"


@pytest.mark.parametrize("key", ["images", "X", "pictures", "arr_7"])
@pytest.mark.parametrize("label", ["labels", "Y", "species"])
def test_any_key_if_one_array_fits(key, label, tmp_path):
    more = {key: GREY, label: CLASSES, "mean": GREY.mean(0)[0], "note": np.array("seen")}
    dataset = load(keyed(tmp_path, **more))
    assert np.array_equal(pictures(dataset), ordered(GREY))
    known = {image.tobytes(): label for image, label in zip(GREY, CLASSES, strict=True)}
    for image, found in zip(dataset.train.levels, dataset.train.labels.tolist(), strict=True):
        assert known[image.numpy().tobytes()] == found


def test_several_arrays_that_fit_are_listed(tmp_path):
    with pytest.raises(InputError, match=r"faces \(40, 12, 10\), masks \(40, 12, 10\)"):
        load(keyed(tmp_path, faces=GREY, masks=GREY > 9))
    assert load(keyed(tmp_path, images=GREY, masks=GREY > 9)).image_shape == (1, 12, 10)


LABELS = {
    "one-hot": (np.eye(4)[CLASSES], CLASSES),
    "one-hot bool": (np.eye(4, dtype=bool)[CLASSES], CLASSES),
    "bool": (CLASSES > 1, CLASSES > 1),
    "column": (CLASSES[:, None], CLASSES),
    "whole floats": (CLASSES.astype(np.float32), CLASSES),
    "bytes": (np.array([b"ant", b"bee", b"cat", b"dog"])[CLASSES], CLASSES),
    "several columns": (R.rand(40, 3), None),
    "attributes": (R.randint(0, 2, (40, 9)), None),
    "floats": (R.rand(40), None),
    "nan": (np.full(40, np.nan), None),
    "boxes": (R.rand(40, 4, 2), None),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_kind_are_classes_or_are_ignored_in_a_line(kind, tmp_path, capsys):
    labels, classes = LABELS[kind]
    dataset = load(
        keyed(tmp_path, x_train=GREY, y_train=labels, x_test=GREY[:4], y_test=labels[:4])
    )
    if classes is None:
        assert dataset.test.labels is None
        assert capsys.readouterr().err.count("is ignored") == 1
    else:
        assert dataset.test.labels.tolist() == classes[:4].tolist()
        assert dataset.class_names == (("ant", "bee", "cat", "dog") if kind == "bytes" else None)


# Tensors


def test_tensors_alone_in_a_dict_and_in_a_tuple(tmp_path):
    path = tmp_path / "own.pt"
    images, labels = torch.from_numpy(RGB).permute(0, 3, 1, 2), torch.from_numpy(CLASSES)
    for content in (
        images,
        {"images": images, "labels": labels, "epoch": 3},
        (images, labels),
        [images.contiguous(), labels],
        {"faces": (images / 255).requires_grad_()},
    ):
        torch.save(content, path)
        dataset = load(path)
        assert np.array_equal(pictures(dataset), ordered(RGB))
        without = isinstance(content, torch.Tensor) or "faces" in content
        assert (dataset.train.labels is None) == without
    torch.save(images.to(torch.bfloat16), path)
    with pytest.raises(InputError, match=r"--data\.range 0 255"):
        load(path)
    torch.save((images, labels), path, _use_new_zipfile_serialization=False)
    assert np.array_equal(pictures(load(path)), ordered(RGB))


class Custom:
    """Something that must be unpickled to be read."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.nn.Linear(3, 4).state_dict(), "weights of a model"),
        ({"model_state_dict": {}, "epoch": 3}, "weights of a model"),
        ({"net.0.weight": torch.zeros(9, 8, 8)}, "weights of a model"),
        (torch.zeros(1).expand(10**6, 100, 100), "contiguous"),
        (torch.zeros(9, 8, 8).to_sparse(), "sparse"),
        (7, "int"),
        ("images", "str"),
        (Custom(), r"cannot be read as tensors \(it has .*Custom, which Limner never unpickles\)"),
        ({"images": GREY, "labels": CLASSES}, "it has numpy arrays, not tensors; torch.from_numpy"),
        (TensorDataset(torch.zeros(9, 8, 8)), "it has torch.*TensorDataset, which"),
        (torch.nn.Linear(2, 2), "it has torch.nn.modules.linear.Linear, which"),
        ({"a": torch.zeros(3)}, r"\(3,\)"),
    ],
)
def test_files_of_torch_that_have_no_images_are_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "own.pt")
    with pytest.raises(InputError, match=message) as refused:
        load(tmp_path / "own.pt")
    assert not re.search("\x1b|weights.only|WeightsUnpickler|torch.load", str(refused.value), re.I)


# Tables


def table(path, rows, header=None, delimiter=",", end="\n"):
    lines = [delimiter.join(map(str, row)) for row in ([header] if header else []) + rows]
    path.write_bytes(end.join(lines).encode() + b"\n")
    return path


SQUARE = np.concatenate([GREY[:, :10, :9], np.zeros((40, 10, 1), np.uint8)], axis=2)
FLAT = SQUARE.reshape(40, -1).tolist()
HEADER = [f"pixel{place}" for place in range(100)]
FIRST = [[label, *row] for label, row in zip(CLASSES, FLAT, strict=True)]
LAST = [[*row, label] for label, row in zip(CLASSES, ([0, *row[1:]] for row in FLAT), strict=True)]
WORDS = [["bee" if label else "ant", *row] for label, *row in FIRST]
TABLES = {
    "kaggle": (FIRST, ["label", *HEADER], {}),
    "kaggle test": (FLAT, HEADER, {}),
    "no header": (FIRST, None, {}),
    "no header, no label": (FLAT, None, {}),
    "label last": (LAST, None, {}),
    "class last": (LAST, [*HEADER, "class"], {}),
    "semicolons": (FIRST, None, {"delimiter": ";"}),
    "tabs": (FIRST, ["label", *HEADER], {"delimiter": "\t"}),
    "Windows": (FIRST, ["\ufefflabel", *HEADER], {"end": "\r\n"}),
    "blank lines": (FIRST, None, {"end": "\n\n"}),
    "numbered": ([[k, *row] for k, row in enumerate(FIRST)], ["", "label", *HEADER], {}),
    "words": (WORDS, ["label", *HEADER], {}),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_in_text(case, tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_files, "BLOCK_BYTES", 8000)
    rows, header, more = TABLES[case]
    dataset = load(table(tmp_path / "own.csv", rows, header, **more))
    images = SQUARE.copy()
    images[:, 0, 0] *= rows is not LAST
    assert np.array_equal(pictures(dataset), ordered(images))
    known = {image.tobytes(): label for image, label in zip(images, CLASSES, strict=True)}
    if "test" in case or "no label" in case:
        assert dataset.train.labels is None
        return
    for image, found in zip(dataset.train.levels, dataset.train.labels.tolist(), strict=True):
        expected = known[image.numpy().tobytes()]
        assert found == (expected > 0 if case == "words" else expected)
    assert dataset.class_names == (("ant", "bee") if case == "words" else None)


def test_tables_of_other_shapes_and_values(tmp_path):
    path = table(tmp_path / "own.csv", GREY.reshape(40, -1).tolist())
    with pytest.raises(InputError, match=r"--data\.shape"):
        load(path)
    assert np.array_equal(pictures(load(path, shape=(12, 10))), ordered(GREY))
    floats = (SQUARE / 255).reshape(40, -1).tolist()
    assert np.array_equal(pictures(load(table(path, floats))), ordered(SQUARE))
    with pytest.raises(InputError, match=r"--data\.range 0 1023"):
        load(table(path, (SQUARE.astype(int) * 4).reshape(40, -1).tolist()))
    with pytest.raises(InputError, match=r"--data\.range 0 1,"):
        load(table(path, (SQUARE > 99).astype(int).reshape(40, -1).tolist()))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"label,pixel0\n",
        b"\0" * 99,
        b"1,2,3,4\n1,2,3\n" * 9,
        b"1,2,3,4\n1,,3,4\n" * 9,
        b"1,2,3,4\n1,x,3,4\n" * 9,
        b"\xff\xfe1\x002\x00",
        b"<html>\n<body>\n",
    ],
)
def test_tables_that_are_none_are_refused(content, tmp_path):
    (tmp_path / "own.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"own\.csv"):
        load(tmp_path / "own.csv")


# Amounts


@pytest.mark.parametrize("suffix", ["npy", "npz", "pt"])
def test_many_images_come_from_the_pixel_cache(suffix, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / f"own.{suffix}"
    if suffix == "npy":
        np.save(path, RGB)
    elif suffix == "npz":
        np.savez_compressed(path, images=RGB)
    else:
        torch.save(torch.from_numpy(RGB), path)
    small = load(path)
    monkeypatch.setattr(arrays, "MOST_IN_MEMORY", 1000)
    monkeypatch.setattr(numpy_files, "BLOCK_BYTES", 1000)
    for _ in range(2):
        large = load(path)
        for split in data.SPLITS:
            assert torch.equal(large.split(split).levels, small.split(split).levels)
        monkeypatch.setattr(array_images, "as_levels", None)  # the second time nothing is read
