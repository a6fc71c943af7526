"""MNIST's files: they are found or downloaded, and altered files are refused."""

import dataclasses
import gzip
import hashlib
from functools import partial

import numpy as np
import pytest

from file_server import served
from limner import data
from limner.data import CATALOGUE, mnist, static_mnist
from limner.data.omniglot import Omniglot
from limner.data.static_mnist import StaticMNIST
from limner.errors import InputError

SIZES = {"train": 12, "t10k": 4}


def contents():
    random = np.random.RandomState(0)
    for word, count in SIZES.items():
        images = random.randint(0, 256, (count, 3, 2)).astype(np.uint8)
        labels = np.arange(count, dtype=np.uint8)
        for name, array in ((f"{word}-images-idx3", images), (f"{word}-labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            yield f"{name}-ubyte", head + array.tobytes()


FILES = dict(contents())
SMALL = dataclasses.replace(
    mnist.MNIST,
    sha256={name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()},
    mirrors=(),
    validation=3,
    system_folders=(),
)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "limner"


def write(folder, files, suffix=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        packed = gzip.compress(content) if suffix.endswith(".gz") else content
        (folder / f"{name}{suffix}").write_bytes(packed)


def known(**changes):
    """The catalogue with small files of MNIST in place of its own."""
    archive = dataclasses.replace(SMALL, **changes)
    read, fetch = partial(mnist.load_archive, archive), partial(mnist.fetch_archive, archive)
    entry = data.Entry(archive.name, "", "dynamic", "", read, fetch)
    return [entry, *(other for other in CATALOGUE if other.name != "mnist")]


def load(root=None, **changes):
    return data.load(data.DataConfig(name="mnist", root=root), known(**changes))


@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_are_found_where_others_put_them(tmp_path, below, suffix):
    write(tmp_path / "root" / below, FILES, suffix)
    dataset = load(tmp_path / "root")
    labels = [dataset.split(split).labels.tolist() for split in data.SPLITS]
    assert labels == [list(range(9)), [9, 10, 11], list(range(4))]
    assert dataset.image_shape == (1, 3, 2)


def test_dotted_names_and_the_system_folder(tmp_path):
    dotted = {name.replace("-idx", ".idx"): content for name, content in FILES.items()}
    write(tmp_path / "share" / "mnist", dotted)
    assert len(load(system_folders=(tmp_path / "share",)).train) == 9
    assert mnist.MNIST.system_folders


def test_a_folder_without_the_files_is_refused(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="does not have the files"):
            load(root)


def test_an_altered_file_is_refused_by_name(tmp_path):
    changed = FILES["t10k-labels-idx1-ubyte"][:-1] + b"\7"
    write(tmp_path, FILES | {"t10k-labels-idx1-ubyte": changed})
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte\.gz has been altered"):
        load(tmp_path)


def test_a_download_is_checked_cached_and_then_found(tmp_path):
    write(tmp_path / "good", FILES)
    write(tmp_path / "bad", {name: content[:-1] + b"\7" for name, content in FILES.items()})
    with served(tmp_path / "good") as good, served(tmp_path / "bad") as bad:
        mirrors = (f"{good}absent/", bad, good)
        paths = data.fetch("mnist", tmp_path / "mine", known(mirrors=mirrors))
        assert [path.parent for path in paths] == [tmp_path / "mine"] * 4
        first = load(mirrors=mirrors)
    assert np.array_equal(load().test.levels, first.test.levels)
    assert data.fetch("mnist", catalogue=known()) == mnist.archive_paths(SMALL, None)


def test_an_altered_download_is_refused_and_not_kept(tmp_path, cache):
    write(tmp_path / "bad", {name: content[:-1] + b"\7" for name, content in FILES.items()})
    with (
        served(tmp_path / "bad") as bad,
        pytest.raises(InputError, match=r"altered file, .* failed \(HTTPError\)"),
    ):
        load(mirrors=(bad, f"{bad}absent/"))
    assert not list((cache / "mnist").iterdir())


def test_a_server_that_is_gone_is_told_in_a_sentence(tmp_path):
    with served(tmp_path) as gone:
        pass
    for dataset in (Omniglot(mirrors=(gone,)), StaticMNIST(mirrors=(gone,))):
        with pytest.raises(InputError, match="could not be downloaded"):
            dataset.load(None)


def test_static_mnist_is_downloaded_and_its_text_checked(tmp_path, monkeypatch):
    bits = np.eye(784, dtype=bool)[:3]
    folder = tmp_path / "served"
    folder.mkdir()
    np.savez(folder / static_mnist.NPZ, train_data=bits, valid_data=bits, test_data=bits)
    with served(folder) as address:
        with pytest.raises(InputError, match="altered"):
            StaticMNIST(mirrors=(address,)).fetch(None)
        line = b"\n".join(b" ".join(b"%d" % bit for bit in row) for row in bits) + b"\n"
        small = StaticMNIST(mirrors=(address,), sha1=(hashlib.sha1(line).hexdigest(),) * 3)
        (path,) = small.fetch(None)
    assert path.name == static_mnist.NPZ
    monkeypatch.setattr(static_mnist, "StaticMNIST", lambda: small)
    assert len(data.load(data.DataConfig(name="static-mnist")).train) == 3
