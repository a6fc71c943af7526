"""CIFAR-10 and CIFAR-100 in their binary version, found on disk or downloaded, and checked.

A record is the label of an image (of CIFAR-100 a coarse and a fine one), then its red, green and
blue levels, 32 rows of each. Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html
"""

import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from limner.data.dataset import Images, Source
from limner.data.download import Published, cache_folder, download
from limner.errors import InputError
from limner.storage import write_atomically

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_SHARE = 10
"""One training image in ten is for validation."""


@dataclass(frozen=True)
class Cifar:
    """Training images, of which the last tenth are for validation, and test images.

    `folder` is that of the files in the archive. `labels` is the number of labels of an image, of
    which the last is its class.
    """

    name: str
    folder: str
    archive: Published
    train: tuple[Published, ...]
    test: Published
    class_names: tuple[str, ...]
    labels: int = 1
    mirrors: tuple[str, ...] = ("https://www.cs.toronto.edu/~kriz/",)

    def load(self, root: Path | None) -> Source:
        return self._source(root, (*self.train, self.test))

    def load_from_train(self, root: Path | None) -> Source:
        """The training images only: the last file of them is the test set."""
        source = self._source(root, self.train)
        return replace(source, note=f"with training batch {len(self.train)} as test set")

    def fetch(self, root: Path | None) -> list[Path]:
        """The files in `root`, or in the cache, checked; downloaded and unpacked if missing."""
        return self._paths(root, (*self.train, self.test), downloads=True)

    def _source(self, root: Path | None, files: Sequence[Published]) -> Source:
        """The images in these files, of which the last has the test images."""
        paths = self._paths(root, files, downloads=root is None)
        known, test = self._images(paths[:-1]), self._images(paths[-1:])
        kept = len(known) - len(known) // _SHARE
        train, validation = known.take(slice(0, kept)), known.take(slice(kept, None))
        return Source(train, validation, test, self.class_names)

    def _images(self, paths: Sequence[Path]) -> Images:
        files = [np.fromfile(path, np.uint8).reshape(-1, self.labels + _PIXELS) for path in paths]
        levels = np.concatenate([records[:, self.labels :] for records in files])
        classes = np.concatenate([records[:, self.labels - 1] for records in files])
        return Images(
            torch.from_numpy(levels.reshape(-1, *_SHAPE)),
            torch.from_numpy(classes.astype(np.int64)),
        )

    def _paths(self, root: Path | None, files: Sequence[Published], downloads: bool) -> list[Path]:
        """These files in `root`, or in the cache, checked; the archive is unpacked if needed."""
        folder = root if root is not None else cache_folder(self.name)
        paths = self._found(folder, files)
        if not paths and (downloads or self._packed(folder)):
            self._unpack(folder)
            paths = self._found(folder, files)
        if not paths:
            raise self._missing(folder)
        for file, path in zip(files, paths, strict=True):
            file.check(path)
        return paths

    def _places(self, folder: Path) -> list[Path]:
        below = ("", self.folder, self.name, f"{self.name}/{self.folder}")
        return [folder / part for part in below]

    def _found(self, folder: Path, files: Sequence[Published]) -> list[Path]:
        """The files, if one of the usual places has all of them; otherwise none."""
        for place in self._places(folder):
            paths = [place / file.name for file in files]
            if all(path.is_file() for path in paths):
                return paths
        return []

    def _packed(self, folder: Path) -> Path | None:
        paths = [place / self.archive.name for place in self._places(folder)]
        return next((path for path in paths if path.is_file()), None)

    def _unpack(self, folder: Path) -> None:
        """Unpack the archive in `folder`; if it is missing, it is downloaded, and then removed."""
        packed, files = self._packed(folder), (*self.train, self.test)
        if packed is not None:
            self.archive.check(packed)
            _extract(packed, folder / self.folder, files)
            return
        packed = download(self.archive.name, self.mirrors, folder, self.archive.check)
        _extract(packed, folder / self.folder, files)
        packed.unlink()

    def _missing(self, folder: Path) -> InputError:
        train = self._found(folder, self.train)
        if train:
            advice = "add it"
            if len(train) > 1:
                advice += f", or take {train[-1].name} as the test set with --data.test-from train"
            return InputError(f"{train[-1].parent} has no {self.test.name}; {advice}.")
        names = ", ".join(file.name for file in (*self.train, self.test))
        return InputError(
            f"{folder} has neither {self.archive.name} nor all of {names}; correct --data.root, or "
            "leave it out to download the files."
        )


def _extract(archive: Path, folder: Path, files: Sequence[Published]) -> None:
    """Write the members of a .tar.gz with the names and sizes of `files` to `folder`.

    No path, link or right of the archive is used, and no other member.
    """
    wanted = {(file.name, file.size) for file in files}
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive, "r|gz") as members:
            for member in members:
                name = PurePosixPath(member.name).name
                content = members.extractfile(member) if member.isreg() else None
                if content is not None and (name, member.size) in wanted:
                    write_atomically(folder / name, iter(partial(content.read, 2**20), b""))
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InputError(f"{archive} cannot be unpacked ({error}); download it again.") from None


_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""

CIFAR10 = Cifar(
    name="cifar10",
    folder="cifar-10-batches-bin",
    archive=Published("cifar-10-binary.tar.gz", 170_052_171, "c32a1d4ab5d03f1284b67883e8d87530"),
    train=(
        Published("data_batch_1.bin", 30_730_000, "5dd7e06a14cb22eb9f671a540d1b7c25"),
        Published("data_batch_2.bin", 30_730_000, "5ea93a67294ea407fff1d09f752e9692"),
        Published("data_batch_3.bin", 30_730_000, "942cd6a4bcdd0dd3c604fbe906cb4421"),
        Published("data_batch_4.bin", 30_730_000, "ae636b3ba5c66a11e91e8cb52e771fcb"),
        Published("data_batch_5.bin", 30_730_000, "53f37980c15c3d472c316c40844f3f0d"),
    ),
    test=Published("test_batch.bin", 30_730_000, "803d5f7f4d78ea53de84dbe85f74fb6d"),
    class_names=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
)

CIFAR100 = Cifar(
    name="cifar100",
    folder="cifar-100-binary",
    archive=Published("cifar-100-binary.tar.gz", 168_513_733, "03b5dce01913d631647c71ecec9e9cb8"),
    train=(Published("train.bin", 153_700_000, "6172c7755cfe09b2fe270c85cebc1b15"),),
    test=Published("test.bin", 30_740_000, "4499cfba6c016c1be1438163640a0898"),
    class_names=tuple(_FINE.split()),
    labels=2,
)
