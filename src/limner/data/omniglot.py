"""OMNIGLOT at 28x28, as Burda, Grosse and Salakhutdinov use it (arXiv 1509.00519).

Grey characters of 50 alphabets (Lake et al. 2015). The label is the alphabet.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from limner.data.array_images import levels_of
from limner.data.dataset import Images, Source
from limner.data.download import cache_folder, download
from limner.data.matlab import check_matrices
from limner.errors import InputError

FILE = "chardata.mat"
_KEYS = ("data", "testdata", "target", "testtarget")


@dataclass(frozen=True)
class Omniglot:
    """23,000 / 1,345 / 8,070 images.

    Validation images are the last of the training images, shuffled with seed 123.
    """

    mirrors: tuple[str, ...] = ("https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/",)
    sizes: tuple[int, int] = (24_345, 8_070)
    validation: int = 1_345

    def load(self, root: Path | None) -> Source:
        path = self.path(root)
        train, test = _read(path)
        if len(train) <= self.validation:
            raise InputError(f"{path} has only {len(train)} training images; download it again.")
        train = train.take(np.random.RandomState(123).permutation(len(train)))
        kept = len(train) - self.validation
        return Source(train.take(slice(0, kept)), train.take(slice(kept, None)), test)

    def path(self, root: Path | None) -> Path:
        """chardata.mat in `root`; without `root` in the cache, downloaded if missing."""
        folder = root if root is not None else cache_folder("omniglot")
        for place in (folder, folder / "omniglot", folder / "OMNIGLOT"):
            if (place / FILE).is_file():
                return place / FILE
        if root is None:
            return self.fetch(None)[0]
        raise InputError(
            f"{root} has no {FILE}; correct --data.root, or leave it out to download the file."
        )

    def fetch(self, root: Path | None) -> list[Path]:
        """chardata.mat in `root`, or in the cache, downloaded if missing.

        Its authors publish no SHA-256, so only the numbers of images are checked.
        """
        folder = root if root is not None else cache_folder("omniglot")
        path = download(FILE, self.mirrors, folder, self._check)
        self._check(path)
        return [path]

    def _check(self, path: Path) -> None:
        sizes = tuple(len(images) for images in _read(path))
        if sizes != self.sizes:
            raise InputError(
                f"{path} has {sizes} images instead of {self.sizes}; download it again."
            )


def _read(path: Path) -> tuple[Images, Images]:
    from scipy.io import loadmat

    check_matrices(path, _KEYS)
    try:
        found = loadmat(path, variable_names=_KEYS)
        return (
            _images(found.get("data"), found.get("target"), f"{path} [data]"),
            _images(found.get("testdata"), found.get("testtarget"), f"{path} [testdata]"),
        )
    except InputError:
        raise
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise InputError(
            f"{path} is not a readable MATLAB file ({error}); download it again."
        ) from None


def _images(data: object, target: object, where: str) -> Images:
    """Images from [784, N], each column in Fortran order; labels from one-hot [50, N]."""
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[0] != 784:
        raise InputError(
            f"{where} is not an array of 784 pixels by N images; download the file again."
        )
    levels = levels_of(data.T.reshape(-1, 28, 28).transpose(0, 2, 1), where)
    if not isinstance(target, np.ndarray) or target.shape[1:] != (len(levels),) or not len(target):
        return Images(levels)
    return Images(levels, torch.from_numpy(target.argmax(axis=0).astype(np.int64)))
