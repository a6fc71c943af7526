"""OMNIGLOT at 28x28, as Burda, Grosse and Salakhutdinov use it (arXiv 1509.00519).

Characters of 50 alphabets (Lake et al. 2015), grey, dynamically binarized. The label is the
alphabet.
"""

from pathlib import Path

import numpy as np
import torch

from limner.data.arrays import levels_of
from limner.data.dataset import Images, Source, check_size
from limner.data.download import cache_folder, download
from limner.errors import InputError

FILE = "chardata.mat"
MIRRORS = ["https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/"]
SIZES = (24_345, 8_070)
VALIDATION = 1_345
_KEYS = ("data", "testdata", "target", "testtarget")


def load_omniglot(root: Path | None) -> Source:
    """23,000 / 1,345 / 8,070: validation is the end of the training images shuffled by seed 123."""
    path = omniglot_path(root)
    train, test = _read(path)
    if len(train) <= VALIDATION:
        raise InputError(f"{path} has {len(train)} training images, too few; fetch it anew.")
    train = train.take(np.random.RandomState(123).permutation(len(train)))
    kept = len(train) - VALIDATION
    return Source(train.take(slice(0, kept)), train.take(slice(kept, None)), test)


def omniglot_path(root: Path | None) -> Path:
    """chardata.mat under `root`, else in the cache, downloaded if absent."""
    folder = root if root is not None else cache_folder("omniglot")
    for place in (folder, folder / "omniglot", folder / "OMNIGLOT"):
        if (place / FILE).is_file():
            return place / FILE
    if root is None:
        return fetch_omniglot(None)[0]
    raise InputError(
        f"{root} does not hold {FILE}; correct --data.root, or leave it out to download it."
    )


def fetch_omniglot(root: Path | None) -> list[Path]:
    """chardata.mat in `root`, else the cache, downloaded if absent and its sizes checked.

    Its authors publish no SHA-256: a download must hold images in the published numbers.
    """
    folder = root if root is not None else cache_folder("omniglot")
    path = download(FILE, MIRRORS, folder, _check)
    _check(path)
    return [path]


def _check(path: Path) -> None:
    sizes = tuple(len(images) for images in _read(path))
    if sizes != SIZES:
        raise InputError(f"{path} has {sizes} images in place of {SIZES}; fetch it anew.")


def _read(path: Path) -> tuple[Images, Images]:
    from scipy.io import loadmat, whosmat

    try:
        for _, shape, _ in whosmat(path):
            check_size(int(np.prod(shape, dtype=object)), 8, str(path))
        found = loadmat(path, variable_names=_KEYS)
        return (
            _images(found.get("data"), found.get("target"), f"{path} [data]"),
            _images(found.get("testdata"), found.get("testtarget"), f"{path} [testdata]"),
        )
    except InputError:
        raise
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise InputError(f"{path} is no readable MATLAB file ({error}); fetch it anew.") from None


def _images(data: object, target: object, where: str) -> Images:
    """Images from [784, N], each column in Fortran order; labels from one-hot [50, N]."""
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[0] != 784:
        raise InputError(f"{where} is no array of 784 pixels by N images; fetch the file anew.")
    levels = levels_of(data.T.reshape(-1, 28, 28).transpose(0, 2, 1), where)
    if not isinstance(target, np.ndarray) or target.shape[1:] != (len(levels),) or not len(target):
        return Images(levels)
    return Images(levels, torch.from_numpy(target.argmax(axis=0).astype(np.int64)))
