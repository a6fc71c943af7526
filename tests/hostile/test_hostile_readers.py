"""Image files with arbitrary content: the result is valid images or an error of one sentence."""

import dataclasses
import gzip
import hashlib
import io
import os
import string
import struct
import sys
import types
import zipfile
import zlib

import numpy as np
import pytest
import torch
from hostility import cases, damaged, refusal, refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from limner import data
from limner.data import CATALOGUE, hub
from limner.data.idx import read_idx
from limner.data.omniglot import Omniglot
from limner.data.static_mnist import StaticMNIST

GREY = np.random.RandomState(0).randint(0, 256, (6, 5, 4)).astype(np.uint8)
BITS = np.random.RandomState(1).rand(3, 784) > 0.5
TEXT = b"".join(b" ".join(b"%d" % bit for bit in row) + b"\n" for row in BITS)
READ = {
    "omniglot": Omniglot(validation=1).load,
    "static-mnist": StaticMNIST(sha1=(hashlib.sha1(TEXT).hexdigest(),) * 3).load,
}
SMALL = [
    dataclasses.replace(entry, read=READ[entry.name]) if entry.name in READ else entry
    for entry in CATALOGUE
]


def load(name, root=None):
    return data.load(data.DataConfig(name=str(name), root=root), SMALL)


def is_sound(dataset):
    """Splits as `Dataset` documents them."""
    for name in data.SPLITS:
        images = dataset.split(name)
        assert images.levels.dtype == torch.uint8
        assert images.levels.shape == (len(images), *dataset.image_shape)
        assert len(images) > 0
        if images.labels is not None:
            assert images.labels.dtype == torch.int64
            assert images.labels.shape == (len(images),)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def pt(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def csv(array):
    file = io.BytesIO()
    np.savetxt(file, array.reshape(len(array), -1), "%d", ",")
    return file.getvalue()


def picture(array, kind="PNG", mode=None):
    file = io.BytesIO()
    Image.fromarray(array).convert(mode).save(file, kind)
    return file.getvalue()


def mat(**more):
    columns = np.random.RandomState(2).rand(784, 4)
    file = io.BytesIO()
    savemat(file, {"data": columns, "testdata": columns, "target": np.eye(4), **more})
    return file.getvalue()


def compressed_mat():
    file = io.BytesIO()
    savemat(file, {"data": BITS.T * 1.0, "testdata": BITS.T * 1.0}, do_compression=True)
    return file.getvalue()


def amat():
    return b"\n".join(b" ".join(b"01"[bit : bit + 1] for bit in row) for row in BITS * 1)


def read_as_idx(path):
    array = read_idx(path)
    assert array.dtype == np.uint8
    assert array.ndim in range(1, 5)


def read_own(path):
    is_sound(load(path))


def read_folder(path):
    for place, name in enumerate(("a.png", "b.png")):
        (path.parent / name).write_bytes(picture(GREY[place + 1]))
    is_sound(load(path.parent))


def read_static(path):
    for split in ("train", "valid"):
        (path.parent / f"binarized_mnist_{split}.amat").write_bytes(amat())
    is_sound(load("static-mnist", path.parent))


def read_root(name):
    return lambda path: is_sound(load(name, path.parent))


IMAGES = {"x_train": GREY / 255.0, "y_train": np.array(["b", "a"] * 3)}
READERS = {
    "idx": ("images", idx(GREY), read_as_idx),
    "idx-gz": ("images.gz", gzip.compress(idx(GREY), mtime=0), read_as_idx),
    "npy": ("own.npy", npy(GREY), read_own),
    "npz": ("own.npz", npz(**IMAGES), read_own),
    "npz-deflated": ("own.npz", npz(np.savez_compressed, **IMAGES), read_own),
    "pt": ("own.pt", pt(torch.from_numpy(GREY)), read_own),
    "pt-tuple": ("own.pt", pt((torch.from_numpy(GREY / 255), torch.arange(6))), read_own),
    "csv": ("own.csv", csv(GREY[:, :4]), read_own),
    "png": ("x.png", picture(GREY[0]), read_folder),
    "png-16": ("x.png", picture(GREY[0].astype(np.uint16) * 257), read_folder),
    "png-palette": ("x.png", picture(GREY[0], "PNG", "P"), read_folder),
    "jpeg": ("x.jpg", picture(GREY[0], "JPEG"), read_folder),
    "amat": ("binarized_mnist_test.amat", amat(), read_static),
    "static-npz": (
        "binarized_mnist.npz",
        npz(train_data=BITS, valid_data=BITS, test_data=BITS * 1.0),
        read_root("static-mnist"),
    ),
    "mat": ("chardata.mat", mat(), read_root("omniglot")),
    "mat-deflated": ("chardata.mat", compressed_mat(), read_root("omniglot")),
}


readers = pytest.mark.parametrize("reader", READERS)


@readers
def test_a_sound_file_is_read(reader, tmp_path):
    name, good, read = READERS[reader]
    (tmp_path / name).write_bytes(good)
    read(tmp_path / name)


def check_any_damage(reader, tmp_path, count):
    name, good, read = READERS[reader]
    path = tmp_path / name

    @cases(count)
    @given(content=damaged(good))
    def check(content):
        path.write_bytes(content)
        refusal(lambda: read(path))

    check()


@readers
def test_any_damage_is_read_or_refused(reader, tmp_path):
    check_any_damage(reader, tmp_path, 40)


@pytest.mark.slow
@readers
def test_much_damage_is_read_or_refused(reader, tmp_path):
    check_any_damage(reader, tmp_path, 300)


@readers
def test_any_bytes_are_refused(reader, tmp_path):
    name, good, read = READERS[reader]
    path = tmp_path / name
    starts = st.sampled_from([b"", good[:4], good[:16], good[: len(good) // 2]])

    @cases(30)
    @given(content=st.builds(lambda start, rest: start + rest, starts, st.binary(max_size=400)))
    def check(content):
        path.write_bytes(content)
        refusal(lambda: read(path))

    check()


# Values that are no damage but no images either


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((6, 5, 4), "c16"),
        np.zeros((6, 5, 4), "M8[s]"),
        np.zeros((6, 5, 4), "S3"),
        np.zeros((6, 5, 4), [("a", "u1")]),
        np.zeros((6, 5, 4), "V0"),
        np.zeros((6, 0, 4), "u1"),
        np.zeros((), "u1"),
        np.zeros((1,) * 30, "u1"),
        np.full((6, 5, 4), -np.inf),
    ],
    ids=lambda array: f"{array.dtype}-{array.ndim}",
)
def test_arrays_of_other_kinds_are_refused(array, tmp_path):
    (tmp_path / "own.npy").write_bytes(npy(array))
    (tmp_path / "own.npz").write_bytes(npz(images=array))
    for name in ("own.npy", "own.npz"):
        refused(lambda name=name: load(tmp_path / name), name)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 5, 4)}",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (-6, -5, 4)}",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (True, 5, 4)}",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1" + b"0" * 4000 + b", 5, 4)}",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (6, 5, 4)}",
        b"__import__('os').system('false')",
        b"(" * 5000,
        b"[" + b"-" * 9000 + b"1]",
        b"{'descr': ('|u1', (2**40,)), 'fortran_order': False, 'shape': (6, 5, 4)}",
    ],
    ids=lambda header: header[:60].decode(),
)
@pytest.mark.parametrize("version", [1, 2, 3, 9])
def test_headers_of_npy_that_lie_are_refused(header, version, tmp_path):
    length = struct.pack("<H" if version == 1 else "<I", len(header) + 1)
    content = b"\x93NUMPY" + bytes([version, 0]) + length + header + b"\n" + bytes(120)
    (tmp_path / "own.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        archive.writestr("images.npy", content)
    for name in ("own.npy", "own.npz"):
        refused(lambda name=name: load(tmp_path / name), name)


class Evil:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("where", ["images", "labels", "x_test", "npy", "static"])
def test_nothing_is_unpickled(where, tmp_path):
    trace = tmp_path / "trace"
    objects = np.array([Evil(trace)] * 6, dtype=object)
    arrays = {"images": GREY, "labels": np.arange(6)}
    if where == "static":
        (tmp_path / "binarized_mnist.npz").write_bytes(
            npz(train_data=objects, valid_data=BITS, test_data=BITS)
        )
        refused(lambda: load("static-mnist", tmp_path), "objects")
    elif where == "npy":
        (tmp_path / "own.npy").write_bytes(npy(objects))
        refused(lambda: load(tmp_path / "own.npy"), "objects")
    else:
        arrays |= {"x_train": GREY} if where == "x_test" else {}
        (tmp_path / "own.npz").write_bytes(npz(**arrays | {where: objects}))
        refused(lambda: load(tmp_path / "own.npz"), "objects")
    assert not trace.exists()
    np.load(io.BytesIO(npy(objects)), allow_pickle=True)
    assert trace.exists()  # the payload is live: numpy's own pickles do run it


SPARSE = csc_matrix(np.eye(784, 4))
BAD_MATRICES = {
    "sparse": {"data": SPARSE},
    "cell": {"data": np.array([["a", 1.0]], dtype=object)},
    "words": {"testdata": "a sentence"},
    "struct": {"data": {"a": 1}},
    "complex": {"data": np.eye(784, 4) * 1j},
    "flat": {"testdata": np.zeros((1, 784))},
}
BAD_TARGETS = {
    "no classes": np.zeros((0, 4)),
    "sparse": SPARSE[:50],
    "cells": np.array([[1.0] * 4, ["a"] * 4], dtype=object),
    "words": "abcd",
    "nan": np.full((50, 4), np.nan),
}


@pytest.mark.parametrize("case", BAD_MATRICES)
def test_matrices_of_other_kinds_are_refused(case, tmp_path):
    (tmp_path / "chardata.mat").write_bytes(mat(**BAD_MATRICES[case]))
    refused(lambda: load("omniglot", tmp_path), "chardata.mat")


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_odd_targets_are_labels_or_refused(case, tmp_path):
    (tmp_path / "chardata.mat").write_bytes(mat(target=BAD_TARGETS[case]))
    refusal(lambda: is_sound(load("omniglot", tmp_path)))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, *chunks, depth=8, colour=0):
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", head), *chunks, chunk(b"IEND", b"")])


BOMB = zlib.compress(bytes(2**22))
BAD_PICTURES = {
    "bomb": png(60_000, 60_000, chunk(b"IDAT", BOMB)),
    "largest": png(2**31 - 1, 2**31 - 1),
    "over": png(2**32 - 1, 1),
    "empty": png(0, 0),
    "no pixels": png(4, 5),
    "profile": png(4, 5, chunk(b"iCCP", b"a\0\0" + BOMB)),
    "text": png(4, 5, chunk(b"zTXt", b"a\0\0" + BOMB), chunk(b"IDAT", zlib.compress(bytes(9)))),
    "depth": png(4, 5, chunk(b"IDAT", BOMB), depth=3),
    "jpeg": picture(GREY[0], "JPEG").replace(b"\0\x05\0\x04\x01", b"\xff\xff\xff\xff\x01"),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/></svg>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 5\n(id) run\n",
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_pictures_that_lie_are_refused(case, tmp_path):
    (tmp_path / "x.png").write_bytes(BAD_PICTURES[case])
    refused(lambda: read_folder(tmp_path / "x.png"), "x.png")


# The folder and its names


def test_what_is_no_file_is_refused_and_nothing_waits(tmp_path):
    path = tmp_path / "x.png"
    for target in ("/dev/zero", path):
        path.symlink_to(target)
        refused(lambda: read_folder(path), "x.png")
        path.unlink()
    os.mkfifo(path)
    refused(lambda: read_folder(path), "x.png")


@pytest.mark.parametrize("target", ["/dev/zero", "/proc/self/mem", "/dev"])
@readers
def test_links_to_what_the_machine_has_are_refused(reader, target, tmp_path):
    name, _, read = READERS[reader]
    if name != "images" and not (name == "images.gz" and target == "/dev/zero"):
        (tmp_path / name).symlink_to(target)
        refused(lambda: read(tmp_path / name))


@pytest.mark.parametrize("name", ["own.npy", "own.npz", "chardata.mat", "binarized_mnist.npz"])
def test_a_pipe_is_no_file(name, tmp_path):
    os.mkfifo(tmp_path / name)
    refused(lambda: load(tmp_path / name))
    for dataset in ("omniglot", "static-mnist", "mnist"):
        refused(lambda dataset=dataset: load(dataset, tmp_path))


def test_a_folder_that_holds_itself_is_read_once(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(picture(GREY[number]))
    (tmp_path / "again").symlink_to(tmp_path)
    sizes = [len(load(tmp_path).split(split)) for split in data.SPLITS]
    assert sum(sizes) == 3


names = st.one_of(
    st.text(min_size=1, max_size=20),
    st.text("ab/.~-_%$\\\n\0\x1b\u202e ", min_size=1, max_size=12),
    st.text("a/", min_size=200, max_size=400),
    st.sampled_from(["~nobody-here/x", "a" * 300, "a" * 5000, "/", "//", "..", "~", "\ud800"]),
)


@cases(120)
@given(name=names)
def test_any_name_of_a_dataset_is_refused(name, tmp_path_factory):
    root = tmp_path_factory.mktemp("empty", numbered=True)
    refused(lambda: load(name.strip("./~") or "a\0", root))
    refused(lambda: data.fetch(name))
    refused(lambda: load("mnist", root / name.strip("/.~") / "x"))


PLAIN = {*string.ascii_letters, *string.digits, *"-._"}


@cases(150)
@given(name=names)
def test_only_plain_names_reach_the_hub(name):
    asked = []
    library = types.ModuleType("datasets")
    library.load_dataset = lambda name, cache_dir: asked.append(name) or {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "datasets", library)
        refused(lambda: load(f"hub:{name}"))
    for plain in asked:
        assert all(set(part) <= PLAIN for part in plain.split("/"))
        assert not plain.startswith((".", "/", "~"))


class Table(list):
    """As much of a `datasets` table as the reader uses."""

    ClassLabel = type("ClassLabel", (), {"names": ["no", "yes"]})
    features = {"picture": type("Image", (), {})(), "class": ClassLabel()}  # noqa: RUF012

    def __getitem__(self, key):
        if isinstance(key, str):
            return [row[key] for row in self]
        row = super().__getitem__(key)
        return {name: value() if callable(value) else value for name, value in row.items()}


def undecodable():
    return Image.open(io.BytesIO(b"no picture"))


def bomb():
    return Image.open(io.BytesIO(BAD_PICTURES["bomb"]))


def cut():
    return Image.open(io.BytesIO(picture(GREY[0])[:60]))


ROWS = {
    "undecodable": ({"picture": undecodable}, "row 1"),
    "bomb": ({"picture": bomb}, "row 1"),
    "cut": ({"picture": cut}, "truncated"),
    "none": ({"picture": None}, "row 1"),
    "bytes": ({"picture": b"abc"}, "hub:"),
    "size": ({"picture": Image.new("L", (9, 9))}, "size"),
    "palette": ({"picture": Image.new("P", (9, 9))}, "size"),
    "no label": ({"class": None}, "hub:"),
    "word": ({"class": "a"}, "hub:"),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows_of_the_hub_that_are_no_images_are_refused(case, monkeypatch):
    row, word = ROWS[case]
    rows = [{"picture": Image.fromarray(image), "class": k % 2} for k, image in enumerate(GREY)]
    rows[1] = rows[1] | row
    library = types.ModuleType("datasets")
    library.load_dataset = lambda name, cache_dir: {"train": Table(rows)}
    monkeypatch.setitem(sys.modules, "datasets", library)
    refused(lambda: hub.load_hub("owner/name", None, data.DataConfig()), "hub:owner/name", word)
    rows[1] = rows[0] | {"class": -1}
    assert hub.load_hub("owner/name", None, data.DataConfig()).train.labels is None
