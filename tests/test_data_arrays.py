"""IDX, .npz and .npy files: accepted content, and the errors for the rest."""

import contextlib
import gzip
import io
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limner import data
from limner.data.idx import read_idx
from limner.errors import InputError

GREY = np.arange(60 * 5 * 4, dtype=np.uint8).reshape(60, 5, 4)
COLOUR = np.repeat(GREY[..., None], 3, axis=3)
LABELS = np.arange(60) % 3
quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def load(path, **more):
    return data.load(data.DataConfig(name=str(path), **more))


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def everything(dataset):
    parts = [dataset.split(split).levels for split in data.SPLITS]
    return np.sort(torch.cat(parts).flatten(1).numpy(), axis=0)


def channels_first(array):
    """GREY or COLOUR in any layout, as uint8 [60, C, 5, 4]."""
    channels = array.size // GREY.size
    return np.repeat(GREY[:, None], channels, axis=1)


def corrupted(good):
    """Bytes of `good` with some changed, cut off or put in."""
    change = st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255))
    return st.builds(
        lambda changes, end, tail: _apply(good, changes)[:end] + tail,
        st.lists(change, max_size=4),
        st.integers(0, len(good)) | st.just(len(good)),
        st.binary(max_size=4),
    )


def _apply(good, changes):
    content = bytearray(good)
    for place, value in changes:
        content[place] = value
    return bytes(content)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_plain_or_gzipped(tmp_path, pack):
    path = tmp_path / "file"
    path.write_bytes(pack(idx(GREY)))
    assert np.array_equal(read_idx(path), GREY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX"),
        (b"\0\0\x0d\x03" + bytes(12), "not an IDX"),
        (idx(GREY)[:10], "header"),
        (idx(GREY)[:-1], "shorter"),
        (idx(GREY) + b"x", "longer"),
        (b"\0\0\x08\x01\x7f\xff\xff\xff", "shorter"),
        (b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff", "GiB"),
        (gzip.compress(idx(GREY), mtime=0)[:-20], "cannot be read|shorter"),
        (gzip.compress(b"\0\0\x08\x01\x7f\xff\xff\xff", mtime=0), "shorter"),
        (idx(GREY), "altered"),
    ],
)
def test_damaged_idx_is_refused(tmp_path, content, message):
    path = tmp_path / "train-images"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        read_idx(path, sha256="0" * 64)
    assert str(path) in str(refused.value)


@quick
@given(content=corrupted(idx(GREY[:3])) | corrupted(gzip.compress(idx(GREY[:3]), mtime=0)))
def test_any_corruption_of_idx_is_read_or_refused(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        assert read_idx(path).dtype == np.uint8


@pytest.mark.parametrize(
    ("array", "shape", "binarization"),
    [
        (GREY, (1, 5, 4), "none"),
        (np.asfortranarray(GREY), (1, 5, 4), "none"),
        (GREY[:, None], (1, 5, 4), "none"),
        (GREY[..., None], (1, 5, 4), "none"),
        (GREY.astype(np.float32) / 255, (1, 5, 4), "none"),
        (COLOUR, (3, 5, 4), "none"),
        (COLOUR.transpose(0, 3, 1, 2), (3, 5, 4), "none"),
    ],
)
def test_arrays_in_every_layout(tmp_path, array, shape, binarization):
    np.save(tmp_path / "own.npy", array)
    np.savez_compressed(tmp_path / "own.npz", images=array, labels=LABELS)
    expected = np.sort(np.repeat(GREY[:, None], shape[0], axis=1).reshape(60, -1), axis=0)
    for name in ("own.npy", "own.npz"):
        dataset = load(tmp_path / name)
        assert dataset.image_shape == shape
        assert dataset.binarization == binarization
        assert np.array_equal(everything(dataset), expected)
    pairs = {
        image.tobytes(): label for image, label in zip(channels_first(array), LABELS, strict=True)
    }
    for split in data.SPLITS:
        images = dataset.split(split)
        for image, label in zip(images.levels.numpy(), images.labels.tolist(), strict=True):
            assert pairs[np.ascontiguousarray(image).tobytes()] == label


def test_binary_arrays_splits_and_words_as_labels(tmp_path):
    words = np.array(["b", "a"] * 30)
    np.savez(tmp_path / "own.npz", x_train=GREY > 99, y_train=words, x_test=GREY > 9, y_test=words)
    dataset = load("own.npz", root=tmp_path)
    assert dataset.is_binary
    assert dataset.class_names == ("a", "b")
    assert len(dataset.train) + len(dataset.validation) == len(dataset.test) == 60
    assert dataset.test.labels[:4].tolist() == [1, 0, 1, 0]


BAD_ARRAYS = {
    "below": ({"images": GREY / 255.0 - 0.1}, "outside"),
    "above": ({"images": GREY.astype(float)}, "outside"),
    "nan": ({"images": np.full((9, 4, 4), np.nan)}, "NaN"),
    "infinite": ({"images": np.full((9, 4, 4), np.inf)}, "outside"),
    "objects": ({"images": np.array([GREY[0], None], dtype=object)}, "never unpickles"),
    "whole numbers": ({"images": GREY.astype(np.int64)}, "int64"),
    "zero and one": ({"images": (GREY > 99).astype(np.uint8)}, "bool"),
    "flat": ({"images": GREY.reshape(60, -1)}, "shape"),
    "channels": ({"images": np.zeros((9, 5, 4, 7), np.uint8)}, "shape"),
    "none": ({"images": GREY[:0]}, "shape"),
    "few": ({"images": GREY[:2]}, "at least 3"),
    "keys": ({"a": GREY, "b": GREY}, "no array of images"),
    "labels": ({"images": GREY, "labels": LABELS[:-1]}, "labels"),
    "shapes": ({"x_train": GREY, "x_test": GREY[:, 1:]}, r"differ in shape.* --data\.size\.$"),
    "colours": ({"x_train": GREY, "x_test": COLOUR}, r"pass --data\.colour grey or rgb\.$"),
    "both": ({"x_train": GREY, "x_test": COLOUR[:, 1:]}, r"--data\.size and --data\.colour"),
    "test alone": ({"x_test": GREY}, "no training images"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_are_no_images_are_refused(tmp_path, case):
    arrays, message = BAD_ARRAYS[case]
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "own.npz")


def test_headers_that_promise_more_than_the_file_are_refused(tmp_path):
    header = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": (2**21, 32, 32)}
    np.lib.format.write_array_header_1_0(header, described)
    (tmp_path / "own.npy").write_bytes(header.getvalue())
    with zipfile.ZipFile(tmp_path / "own.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue())
    for name in ("own.npy", "own.npz"):
        with pytest.raises(InputError, match="shorter"):
            load(tmp_path / name)


def test_objects_are_refused_as_objects_in_every_file(tmp_path):
    objects = np.array([GREY[0]] * 3 + [None], dtype=object)
    np.save(tmp_path / "own.npy", objects)
    np.save(tmp_path / "many.npy", np.full((100, 99), None))
    np.savez(tmp_path / "own.npz", objects)
    np.savez_compressed(tmp_path / "packed.npz", images=np.full((100, 99), None))
    for name in ("own.npy", "many.npy", "own.npz", "packed.npz"):
        with pytest.raises(InputError, match="has Python objects, which Limner never unpickles"):
            load(tmp_path / name)
    np.savez_compressed(tmp_path / "own.npz", images=GREY, about=np.full((100, 99), None))
    assert load(tmp_path / "own.npz").image_shape == (1, 5, 4)


def test_splits_of_other_colours_and_sizes_are_read_with_the_flags(tmp_path):
    np.savez(tmp_path / "own.npz", x_train=GREY, x_test=COLOUR[:, 1:])
    assert load(tmp_path / "own.npz", size=4, colour="rgb").image_shape == (3, 4, 4)
    with pytest.raises(InputError, match=r"pass --data\.colour grey or rgb\.$"):
        load(tmp_path / "own.npz", size=4)


def test_images_that_are_left_out_are_named_in_a_line(tmp_path, capsys):
    for more in ({}, {"x_holdout": GREY[:9]}, {"a": GREY, "masks": COLOUR > 9}):
        np.savez(tmp_path / "own.npz", x_train=GREY, y_train=LABELS, y_other=LABELS, **more)
        load(tmp_path / "own.npz")
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == bool(more)
        assert all(f"{key} {array.shape}" in lines[0] for key, array in more.items())
    np.savez(tmp_path / "own.npz", images=GREY.reshape(60, 20), latents=np.zeros((60, 7)))
    load(tmp_path / "own.npz", shape=(5, 4))
    assert "latents" not in capsys.readouterr().err


def packed(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@quick
@given(content=corrupted(packed(x=GREY[:4])))
def test_any_corruption_of_npz_is_read_or_refused(tmp_path, content):
    (tmp_path / "own.npz").write_bytes(content)
    with contextlib.suppress(InputError):
        assert len(load(tmp_path / "own.npz").train)


@quick
@given(content=corrupted(saved(GREY[:4] / 255.0)))
def test_any_corruption_of_npy_is_read_or_refused(tmp_path, content):
    (tmp_path / "own.npy").write_bytes(content)
    with contextlib.suppress(InputError):
        assert len(load(tmp_path / "own.npy").train)
