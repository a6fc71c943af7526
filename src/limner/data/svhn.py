"""SVHN: digits of house numbers, cropped to 32x32, found on disk or downloaded, and checked.

Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers. In the files the label of digit 0 is 10.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from limner.data.dataset import Images, Source
from limner.data.download import Published, cache_folder, download
from limner.data.installed import DIGITS
from limner.data.matlab import check_matrices
from limner.errors import InputError

_KEYS = ("X", "y")
_TRAIN = Published("train_32x32.mat", 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373")
_TEST = Published("test_32x32.mat", 64_275_384, "eb5a983be6a315427106f1b164d9cef3")


@dataclass(frozen=True)
class SVHN:
    """66,000 / 7,257 / 26,032 images; validation images are the last of the training images."""

    train: Published = _TRAIN
    test: Published = _TEST
    validation: int = 7_257
    mirrors: tuple[str, ...] = ("http://ufldl.stanford.edu/housenumbers/",)

    def load(self, root: Path | None) -> Source:
        if root is not None and not self._found(root):
            raise InputError(
                f"{root} does not have {self.train.name} and {self.test.name}; correct "
                "--data.root, or leave it out to download them."
            )
        known, test = map(_read, self.fetch(root))
        kept = len(known) - self.validation
        return Source(known.take(slice(0, kept)), known.take(slice(kept, None)), test, DIGITS)

    def fetch(self, root: Path | None) -> list[Path]:
        """Both files in `root`, or in the cache, checked; missing ones are downloaded."""
        folder = root if root is not None else cache_folder("svhn")
        files = (self.train, self.test)
        paths = self._found(folder) or [
            download(file.name, self.mirrors, folder, file.check) for file in files
        ]
        for file, path in zip(files, paths, strict=True):
            file.check(path)
        return paths

    def _found(self, folder: Path) -> list[Path]:
        """Both files, if one of the usual places has them; otherwise none."""
        for place in (folder, folder / "svhn", folder / "SVHN"):
            paths = [place / file.name for file in (self.train, self.test)]
            if all(path.is_file() for path in paths):
                return paths
        return []


def _read(path: Path) -> Images:
    """Images from X [32, 32, 3, N], rows first, and labels from y [N, 1]."""
    from scipy.io import loadmat

    check_matrices(path, _KEYS)
    try:
        found = loadmat(path, variable_names=_KEYS)
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise InputError(
            f"{path} is not a readable MATLAB file ({error}); download it again."
        ) from None
    pixels, labels = np.asarray(found.get("X")), np.asarray(found.get("y"))
    count = pixels.shape[-1] if pixels.ndim == 4 else 0
    if pixels.shape != (32, 32, 3, count) or pixels.dtype != np.uint8 or labels.size != count:
        raise InputError(
            f"{path} does not have X, 32 x 32 x 3 levels by N images, and y, N labels; download it "
            "again."
        )
    levels = np.ascontiguousarray(pixels.transpose(3, 2, 0, 1))
    digits = labels.ravel().astype(np.int64) % 10
    return Images(torch.from_numpy(levels), torch.from_numpy(digits))
