"""MNIST and Fashion-MNIST: four IDX files, found on disk or downloaded, and checked.

LeCun, Cortes and Burges 1998; Xiao, Rasul and Vollgraf 2017 (arXiv 1708.07747).
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from limner.data.dataset import Images, Source
from limner.data.download import cache_folder, download
from limner.data.idx import read_idx
from limner.data.installed import DIGITS
from limner.errors import InputError


@dataclass(frozen=True)
class Archive:
    """A dataset in MNIST's four files: `sha256` of each, uncompressed, and its mirrors."""

    name: str
    torchvision: str
    sha256: dict[str, str]
    mirrors: tuple[str, ...]
    class_names: tuple[str, ...]
    validation: int = 10_000
    system_folders: tuple[Path, ...] = (Path("/usr/share/datasets"),)


MNIST = Archive(
    name="mnist",
    torchvision="MNIST",
    sha256={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738"
        "ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5"
        "333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77"
        "db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351"
        "222c34898ecbeaf847f06e48f7ec33f2",
    },
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    class_names=DIGITS,
)

FASHION_MNIST = Archive(
    name="fashion-mnist",
    torchvision="FashionMNIST",
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f8388776"
        "8d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec29"
        "4ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe0"
        "87ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494"
        "c5af83dab82d92729df917d7dec38c34",
    },
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    class_names=(
        "t-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
)


def load_archive(archive: Archive, root: Path | None) -> Source:
    """50,000 training, 10,000 validation (the last of the training file) and 10,000 test images."""
    paths = dict(zip(archive.sha256, archive_paths(archive, root), strict=True))
    read = {file: read_idx(path, archive.sha256[file]) for file, path in paths.items()}
    train_x, train_y, test_x, test_y = (torch.from_numpy(array) for array in read.values())
    train = Images(train_x.unsqueeze(1), train_y.long())
    test = Images(test_x.unsqueeze(1), test_y.long())
    kept = len(train) - archive.validation
    return Source(
        train.take(slice(0, kept)), train.take(slice(kept, None)), test, archive.class_names
    )


def archive_paths(archive: Archive, root: Path | None) -> list[Path]:
    """The four files in `root`; without `root` in a system folder or the cache, or downloaded."""
    roots = [root] if root is not None else [*archive.system_folders, cache_folder("")]
    present = _present(archive, roots)
    if present:
        return present
    if root is None:
        return fetch_archive(archive, None)
    raise InputError(
        f"{root} does not have the files of {archive.name} (train-images-idx3-ubyte, gzipped or "
        "not, and the three others); correct --data.root, or leave it out to download them."
    )


def fetch_archive(archive: Archive, root: Path | None) -> list[Path]:
    """The four files in `root`, or in the cache, checked; missing ones are downloaded."""
    folder = root if root is not None else cache_folder(archive.name)
    present = _present(archive, [folder])
    paths = []
    for index, (file, sha256) in enumerate(archive.sha256.items()):
        check = partial(read_idx, sha256=sha256)
        path = present[index] if present else _find(folder, file)
        if path is None:
            path = download(f"{file}.gz", archive.mirrors, folder, check)
        else:
            check(path)
        paths.append(path)
    return paths


def _present(archive: Archive, roots: list[Path]) -> list[Path]:
    """The four files, if one of the folders has all of them; otherwise none."""
    for folder in _folders(archive, roots):
        found = [_find(folder, file) for file in archive.sha256]
        if all(found):
            return [path for path in found if path is not None]
    return []


def _folders(archive: Archive, roots: list[Path]) -> list[Path]:
    """Folders that may have the files: as Limner, torchvision and Debian name them."""
    below = ("", archive.name, f"{archive.torchvision}/raw", "raw")
    return [root / part for root in roots for part in below]


def _find(folder: Path, file: str) -> Path | None:
    dotted = file.replace("-idx", ".idx")
    names = [file, f"{file}.gz", dotted, f"{dotted}.gz"]
    return next((folder / name for name in names if (folder / name).is_file()), None)
