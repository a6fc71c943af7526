"""CIFAR-10, CIFAR-100 and SVHN, in small files of their formats."""

import dataclasses
import hashlib
import io
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.io import savemat

from file_server import served
from limner import data
from limner.commands import evaluate
from limner.config import RunConfig
from limner.data import cifar, matlab, svhn
from limner.data.download import Published
from limner.errors import InputError
from limner.models import VAEConfig

PUBLISHED = cifar.CIFAR10, cifar.CIFAR100
RANDOM = np.random.RandomState(0)
BATCHES = {f"data_batch_{number}.bin": 20 for number in range(1, 6)} | {"test_batch.bin": 10}


def records(count, labels):
    """Labels [count, labels] and levels [count, 3, 32, 32] that are all different, as bytes."""
    images = RANDOM.randint(0, 256, (count, 3, 32, 32)).astype(np.uint8)
    known = RANDOM.randint(0, 10, (count, labels)).astype(np.uint8)
    return np.concatenate([known, images.reshape(count, -1)], axis=1).tobytes()


def published(name, content):
    return Published(name, len(content), hashlib.md5(content).hexdigest())


def tar(files, more=()):
    """A .tar.gz of files in a folder `batches`, after members that are no files of a dataset."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member, content in more:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, content in files.items():
            member = tarfile.TarInfo(f"batches/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


FILES = {name: records(count, 1) for name, count in BATCHES.items()}
FINE = {"train.bin": records(30, 2), "test.bin": records(10, 2)}
DANGEROUS = [
    (tarfile.TarInfo("../outside.bin"), b"out"),
    (tarfile.TarInfo("/tmp/absolute.bin"), b"out"),
    (tarfile.TarInfo("batches/data_batch_2.bin"), b"of another size"),
    (link("batches/data_batch_1.bin", "/etc/passwd"), b""),
    (tarfile.TarInfo("batches/batches.meta.txt"), b"airplane"),
]
PACKED = tar(FILES, DANGEROUS)


def small(known, files, packed):
    """A description of CIFAR with these files instead of its own."""
    *train, test = [published(name, content) for name, content in files.items()]
    return dataclasses.replace(
        known, archive=published(known.archive.name, packed), train=tuple(train), test=test
    )


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache of its own, and small datasets under the names of the large ones."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar, "CIFAR10", small(cifar.CIFAR10, FILES, PACKED))
    monkeypatch.setattr(cifar, "CIFAR100", small(cifar.CIFAR100, FINE, tar(FINE)))
    return tmp_path / "cache" / "limner"


@pytest.fixture
def mirrored(monkeypatch):
    def mirror(*addresses):
        known = dataclasses.replace(cifar.CIFAR10, mirrors=addresses)
        monkeypatch.setattr(cifar, "CIFAR10", known)

    return mirror


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def load(root=None, name="cifar10", **more):
    return data.load(data.DataConfig(name=name, root=root, **more))


def pixels(dataset, *splits):
    return torch.cat([dataset.split(split).levels for split in splits]).flatten(1).numpy()


def levels(files, *names, labels=1):
    """Levels [N, 3072] in files, by the definition of the format."""
    content = b"".join(files[name] for name in names)
    rows = np.frombuffer(content, np.uint8).reshape(-1, labels + 3072)
    return rows[:, labels:]


@pytest.mark.parametrize("below", ["", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_the_binary_files_of_cifar_10_are_found_and_split(tmp_path, below):
    write(tmp_path / below, FILES)
    dataset = load(tmp_path)
    assert [len(dataset.split(split)) for split in data.SPLITS] == [90, 10, 10]
    assert np.array_equal(pixels(dataset, "train", "validation"), levels(FILES, *list(FILES)[:5]))
    assert np.array_equal(pixels(dataset, "test"), levels(FILES, "test_batch.bin"))
    assert dataset.test.labels.tolist() == list(FILES["test_batch.bin"][::3073])
    assert dataset.image_shape == (3, 32, 32)
    assert (dataset.name, dataset.binarization) == ("cifar10", "none")
    assert dataset.class_names[3] == "cat"
    assert load(tmp_path, colour="grey", size=16).image_shape == (1, 16, 16)


def test_the_label_of_cifar_100_is_the_fine_one(tmp_path):
    write(tmp_path / "cifar-100-binary", FINE)
    dataset = load(tmp_path, "cifar100")
    assert [len(dataset.split(split)) for split in data.SPLITS] == [27, 3, 10]
    assert dataset.test.labels.tolist() == list(FINE["test.bin"][1::3074])
    assert np.array_equal(pixels(dataset, "test"), levels(FINE, "test.bin", labels=2))
    (tmp_path / "cifar-100-binary" / "test.bin").unlink()
    with pytest.raises(InputError, match=r"cifar-100-binary has no test\.bin; add it\.$"):
        load(tmp_path, "cifar100")


def test_training_batch_5_can_be_the_test_set_and_every_name_says_so(tmp_path):
    write(tmp_path, {name: FILES[name] for name in list(FILES)[:5]})
    with pytest.raises(InputError, match=r"no test_batch\.bin; .*--data\.test-from train"):
        load(tmp_path)
    dataset = load(tmp_path, test_from="train")
    assert [len(dataset.split(split)) for split in data.SPLITS] == [72, 8, 20]
    assert np.array_equal(pixels(dataset, "train", "validation"), levels(FILES, *list(FILES)[:4]))
    assert np.array_equal(pixels(dataset, "test"), levels(FILES, "data_batch_5.bin"))
    assert repr(dataset).startswith(
        "<Dataset cifar10 with training batch 5 as test set: 72 / 8 / 20"
    )
    config = RunConfig(model=VAEConfig(), data=dataset.source, epochs=1)
    run = SimpleNamespace(config=config, data=config.data, metrics=list, made=list)
    run.validation_elbo = lambda checkpoint: None
    about = evaluate._about(run, dataset, evaluate.Options())
    assert about["dataset"] == "cifar10 with training batch 5 as test set"
    assert about["data"]["test_from"] == "train"


def test_a_file_that_is_cut_altered_or_missing_is_refused(tmp_path):
    write(tmp_path, FILES)
    for content, why in (
        (FILES["test_batch.bin"][:-1], "has 30,729 bytes instead of 30,730"),
        (b"\0" * len(FILES["test_batch.bin"]), "has been altered"),
    ):
        write(tmp_path, {"test_batch.bin": content})
        for read in (load, lambda root: data.fetch("cifar10", root)):
            with pytest.raises(InputError, match=rf"test_batch\.bin {why}"):
                read(tmp_path)
    for root in (tmp_path / "nowhere", write(tmp_path / "one", dict(list(FILES.items())[:1]))):
        with pytest.raises(InputError, match=r"neither cifar-10-bin.*\.gz nor all of data_batch_1"):
            load(root)


def test_an_archive_is_downloaded_checked_and_unpacked_without_its_paths(tmp_path, cache, mirrored):
    offered = write(tmp_path / "offered", {"cifar-10-binary.tar.gz": PACKED})
    bad = write(tmp_path / "bad", {"cifar-10-binary.tar.gz": PACKED[:-1]})
    with served(offered) as good, served(bad) as altered:
        mirrored(f"{good}absent/", altered, good)
        first = load()
    unpacked = cache / "cifar10" / "cifar-10-batches-bin"
    assert {path.name for path in unpacked.iterdir()} == set(FILES)
    assert not any(path.is_symlink() for path in unpacked.iterdir())
    assert [path.name for path in (cache / "cifar10").iterdir()] == ["cifar-10-batches-bin"]
    assert not list(tmp_path.rglob("outside.bin"))
    assert np.array_equal(pixels(first, *data.SPLITS), levels(FILES, *FILES))
    mirrored()
    assert [path.parent for path in data.fetch("cifar10")] == [unpacked] * 6
    assert np.array_equal(pixels(load(), "test"), pixels(first, "test"))


def test_an_altered_download_is_refused_and_not_kept(tmp_path, cache, mirrored):
    bad = write(tmp_path / "bad", {"cifar-10-binary.tar.gz": PACKED[:-8] + bytes(8)})
    with served(bad) as address:
        mirrored(address)
        with pytest.raises(InputError, match="served an altered file"):
            data.fetch("cifar10")
    assert not list((cache / "cifar10").iterdir())


def test_an_archive_in_the_folder_is_unpacked_and_kept(tmp_path, monkeypatch):
    root = write(tmp_path / "root" / "cifar10", {"cifar-10-binary.tar.gz": PACKED}).parent
    assert len(load(root).test) == 10
    assert (root / "cifar-10-batches-bin" / "test_batch.bin").is_file()
    assert (root / "cifar10" / "cifar-10-binary.tar.gz").read_bytes() == PACKED
    cut = tar(FILES)[:-2000]
    monkeypatch.setattr(cifar, "CIFAR10", small(cifar.CIFAR10, FILES, cut))
    write(tmp_path / "cut", {"cifar-10-binary.tar.gz": cut})
    with pytest.raises(InputError, match=r"gz cannot be unpacked .*download it again"):
        load(tmp_path / "cut")


def test_the_published_files_have_whole_records_of_all_classes():
    for known, classes in zip(PUBLISHED, (10, 100), strict=True):
        assert len(set(known.class_names)) == classes
        assert list(known.class_names) == sorted(known.class_names)
        sizes = sum(file.size for file in known.train), known.test.size
        assert sizes == (50_000 * (known.labels + 3072), 10_000 * (known.labels + 3072))


# SVHN


def mat(images, digits, **more):
    """A file of SVHN: X [32, 32, 3, N], and y [N, 1], in which digit 0 is 10."""
    file = io.BytesIO()
    values = {"X": images.transpose(2, 3, 1, 0), "y": np.where(digits == 0, 10, digits)[:, None]}
    savemat(file, values | more, do_compression=True)
    return file.getvalue()


def house_numbers(count):
    images = RANDOM.randint(0, 256, (count, 3, 32, 32)).astype(np.uint8)
    return images, RANDOM.permutation(count).astype(np.uint8) % 10


TRAIN, TEST = house_numbers(30), house_numbers(12)
MATS = {"train_32x32.mat": mat(*TRAIN), "test_32x32.mat": mat(*TEST)}


def small_svhn(files=MATS, **more):
    train, test = (published(name, content) for name, content in files.items())
    return svhn.SVHN(train, test, validation=4, **more)


@pytest.mark.parametrize("below", ["", "svhn"])
def test_svhn_is_turned_split_and_its_tens_are_zeros(tmp_path, below):
    write(tmp_path / below, MATS)
    source = small_svhn().load(tmp_path)
    assert np.array_equal(source.train.levels, TRAIN[0][:26])
    assert np.array_equal(source.validation.levels, TRAIN[0][26:])
    assert np.array_equal(source.test.levels, TEST[0])
    assert source.test.labels.tolist() == TEST[1].tolist()
    assert 0 in source.test.labels
    assert source.test.levels.is_contiguous()


def test_svhn_is_downloaded_checked_and_then_found(tmp_path, cache):
    write(tmp_path / "offered", MATS)
    with served(tmp_path / "offered") as address:
        paths = small_svhn(mirrors=(address,)).fetch(None)
    assert [path.parent for path in paths] == [cache / "svhn"] * 2
    assert len(small_svhn(mirrors=()).load(None).test) == 12
    with served(tmp_path) as gone:
        pass
    with pytest.raises(InputError, match="could not be downloaded"):
        small_svhn(mirrors=(gone,)).fetch(tmp_path / "elsewhere")


def test_svhn_that_is_cut_altered_or_missing_is_refused(tmp_path):
    for name, content, why in (
        ("train_32x32.mat", MATS["train_32x32.mat"][:-1], "bytes instead of"),
        ("test_32x32.mat", MATS["test_32x32.mat"][:-1] + b"\0", "has been altered"),
    ):
        write(tmp_path, MATS | {name: content})
        with pytest.raises(InputError, match=f"{name} .*{why}"):
            small_svhn().load(tmp_path)
    (tmp_path / "train_32x32.mat").unlink()
    with pytest.raises(InputError, match=r"does not have train_32x32\.mat"):
        small_svhn().load(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (mat(*TEST)[:-500], "MATLAB file"),
        (b"no MATLAB file", "MATLAB"),
        (mat(TEST[0] / 255, TEST[1]), "does not have X"),
        (mat(TEST[0][:, :1], TEST[1]), "does not have X"),
        (mat(TEST[0], TEST[1][:-1]), "does not have X"),
        (mat(*TEST, X=np.array([["a", 1.0]], dtype=object)), "not a matrix of numbers"),
    ],
)
def test_a_mat_file_with_something_else_is_refused(tmp_path, content, why):
    files = MATS | {"test_32x32.mat": content}
    write(tmp_path, files)
    with pytest.raises(InputError, match=rf"test_32x32\.mat.* {why}"):
        small_svhn(files).load(tmp_path)


def test_the_matrix_of_svhn_is_within_the_limit_and_a_wider_one_is_not(tmp_path):
    shape, bytes_, doubles = (32, 32, 3, 73_257), 9, 6
    values = int(np.prod(shape))
    matlab._check(matlab._Head(b"X", bytes_, shape, values + 64), values + 64, tmp_path)
    for kind, length, why in ((doubles, 8 * values, "states"), (bytes_, 8 * values, "is longer")):
        with pytest.raises(InputError, match=why):
            matlab._check(matlab._Head(b"X", kind, shape, length), length, tmp_path)
