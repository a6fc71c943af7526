"""MNIST's files: where they are found, how they are fetched, and that altered ones are refused."""

import contextlib
import dataclasses
import gzip
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pooch
import pytest

from limner import data
from limner.data import mnist, omniglot, static_mnist
from limner.errors import InputError

SIZES = {"train": 12, "t10k": 4}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *values):
        pass


@contextlib.contextmanager
def served(folder):
    """The address at which a loopback server offers the files in `folder`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def contents():
    random = np.random.RandomState(0)
    for word, count in SIZES.items():
        images = random.randint(0, 256, (count, 3, 2)).astype(np.uint8)
        labels = np.arange(count, dtype=np.uint8)
        for name, array in ((f"{word}-images-idx3", images), (f"{word}-labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            yield f"{name}-ubyte", head + array.tobytes()


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """MNIST in the small: four files, no mirrors, no system folder, a cache of its own."""
    files = dict(contents())
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    archive = dataclasses.replace(mnist.MNIST, sha256=sha256, mirrors=(), validation=3)
    monkeypatch.setattr(mnist, "MNIST", archive)
    monkeypatch.setattr(mnist, "SYSTEM_FOLDERS", ())
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    return files


def write(folder, files, suffix=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        packed = gzip.compress(content) if suffix.endswith(".gz") else content
        (folder / f"{name}{suffix}").write_bytes(packed)


def load(root=None):
    return data.load(data.DataConfig(name="mnist", root=root))


@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_are_found_where_others_put_them(tiny, tmp_path, below, suffix):
    write(tmp_path / "root" / below, tiny, suffix)
    dataset = load(tmp_path / "root")
    labels = [dataset.split(split).labels.tolist() for split in data.SPLITS]
    assert labels == [list(range(9)), [9, 10, 11], list(range(4))]
    assert dataset.image_shape == (1, 3, 2)


def test_dotted_names_and_the_system_folder(tiny, tmp_path, monkeypatch):
    dotted = {name.replace("-idx", ".idx"): content for name, content in tiny.items()}
    write(tmp_path / "share" / "mnist", dotted)
    monkeypatch.setattr(mnist, "SYSTEM_FOLDERS", (tmp_path / "share",))
    assert len(load().train) == 9


def test_a_folder_without_the_files_is_refused(tiny, tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="does not hold"):
            load(root)


def test_an_altered_file_is_refused_by_name(tiny, tmp_path):
    changed = tiny["t10k-labels-idx1-ubyte"][:-1] + b"\7"
    write(tmp_path, tiny | {"t10k-labels-idx1-ubyte": changed})
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte\.gz has been altered"):
        load(tmp_path)


def test_a_download_is_checked_cached_and_then_found(tiny, tmp_path, monkeypatch):
    write(tmp_path / "good", tiny)
    write(tmp_path / "bad", {name: content[:-1] + b"\7" for name, content in tiny.items()})
    with served(tmp_path / "good") as good, served(tmp_path / "bad") as bad:
        archive = dataclasses.replace(mnist.MNIST, mirrors=(f"{good}absent/", bad, good))
        monkeypatch.setattr(mnist, "MNIST", archive)
        paths = data.fetch("mnist", tmp_path / "mine")
        assert [path.parent for path in paths] == [tmp_path / "mine"] * 4
        first = load()
    assert np.array_equal(load().test.levels, first.test.levels)
    assert data.fetch("mnist") == mnist.archive_paths(archive, None)


def test_an_altered_download_is_refused_and_not_kept(tiny, tmp_path, monkeypatch):
    write(tmp_path / "bad", {name: content[:-1] + b"\7" for name, content in tiny.items()})
    with served(tmp_path / "bad") as bad:
        archive = dataclasses.replace(mnist.MNIST, mirrors=(bad, f"{bad}absent/"))
        monkeypatch.setattr(mnist, "MNIST", archive)
        with pytest.raises(InputError, match=r"altered file, .* failed \(HTTPError\)"):
            load()
    assert not list((tmp_path / "cache" / "mnist").iterdir())


def test_a_server_that_is_gone_is_told_in_a_sentence(tiny, tmp_path, monkeypatch):
    with served(tmp_path) as gone:
        pass
    monkeypatch.setattr(omniglot, "MIRRORS", [gone])
    monkeypatch.setattr(static_mnist, "MIRRORS", [gone])
    for name in ("omniglot", "static-mnist"):
        with pytest.raises(InputError, match="could not be downloaded"):
            data.load(data.DataConfig(name=name))


def test_downloads_without_a_checksum_must_have_the_published_sizes(tiny, tmp_path, monkeypatch):
    bits = np.eye(784, dtype=bool)[:3]
    folder = tmp_path / "served"
    folder.mkdir()
    np.savez(folder / static_mnist.NPZ, train_data=bits, valid_data=bits, test_data=bits)
    with served(folder) as address:
        monkeypatch.setattr(static_mnist, "MIRRORS", [address])
        with pytest.raises(InputError, match="altered"):
            data.fetch("static-mnist")
        monkeypatch.setattr(static_mnist, "SIZES", (3, 3, 3))
        (path,) = data.fetch("static-mnist")
    assert path.name == static_mnist.NPZ
    assert len(data.load(data.DataConfig(name="static-mnist")).train) == 3
