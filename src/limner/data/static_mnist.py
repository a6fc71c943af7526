"""Static MNIST: one fixed Bernoulli draw of MNIST, without labels.

Salakhutdinov and Murray 2008; the files are Larochelle's, 50,000 / 10,000 / 10,000 images of 28x28.
"""

from pathlib import Path

import numpy as np
import torch

from limner.data.arrays import image_key, npz_keys, read_npz
from limner.data.dataset import SPLITS, Images, Source, check_size
from limner.data.download import cache_folder, download
from limner.errors import InputError

NPZ = "binarized_mnist.npz"
AMAT = tuple(f"binarized_mnist_{split}.amat" for split in ("train", "valid", "test"))
SIZES = (50_000, 10_000, 10_000)
# Larochelle's own address is dead; this is a copy of his files that the authors of MADE released.
MIRRORS = ["https://github.com/mgermain/MADE/releases/download/ICML2015/"]


def load_static_mnist(root: Path | None) -> Source:
    """The three splits, from the .amat texts or the .npz under `root`, else downloaded."""
    train, validation, test = _read(static_mnist_paths(root))
    return Source(Images(train), Images(validation), Images(test))


def static_mnist_paths(root: Path | None) -> list[Path]:
    """The .npz or the three .amat files under `root`, else in the cache, downloaded if absent."""
    folder = root if root is not None else cache_folder("static-mnist")
    for place in (folder, folder / "static-mnist", folder / "binarized_mnist"):
        for files in ((NPZ,), AMAT):
            paths = [place / file for file in files]
            if all(path.is_file() for path in paths):
                return paths
    if root is None:
        return fetch_static_mnist(None)
    raise InputError(
        f"{root} holds neither {NPZ} nor {', '.join(AMAT)}; correct --data.root, or leave it out "
        "to download."
    )


def fetch_static_mnist(root: Path | None) -> list[Path]:
    """The .npz in `root`, else the cache, downloaded if absent and its splits checked.

    No SHA-256 of the mirror's file is published: a download must hold binary images in the
    published numbers.
    """
    folder = root if root is not None else cache_folder("static-mnist")
    path = download(NPZ, MIRRORS, folder, _check)
    _check(path)
    return [path]


def _check(path: Path) -> None:
    sizes = tuple(len(levels) for levels in _read_npz(path))
    if sizes != SIZES:
        raise InputError(f"{path} has splits of {sizes} images in place of {SIZES}; fetch it anew.")


def _read(paths: list[Path]) -> list[torch.Tensor]:
    return _read_npz(paths[0]) if len(paths) == 1 else [_read_amat(path) for path in paths]


def _read_npz(path: Path) -> list[torch.Tensor]:
    keys = npz_keys(path)
    chosen = [image_key(keys, split) for split in SPLITS]
    if not all(chosen):
        chosen = [f"arr_{place}" if f"arr_{place}" in keys else None for place in range(3)]
    wanted = [key for key in chosen if key is not None]
    if len(wanted) < len(SPLITS):
        raise InputError(
            f"{path} has arrays {', '.join(keys) or 'none'}; it needs train_data, valid_data and "
            "test_data."
        )
    return [_levels(read_npz(path, key), f"{path} [{key}]") for key in wanted]


def _read_amat(path: Path) -> torch.Tensor:
    """One image a line: 784 times 0 or 1, set apart by blanks."""
    check_size(path.stat().st_size, 1, str(path))
    text = np.frombuffer(path.read_bytes(), np.uint8)
    if not np.isin(text, np.frombuffer(b"01 \t\r\n", np.uint8)).all():
        raise InputError(f"{path} holds more than 0, 1 and blanks; fetch it anew.")
    return _levels(text[(text == ord("0")) | (text == ord("1"))] == ord("1"), str(path))


def _levels(bits: np.ndarray, where: str) -> torch.Tensor:
    if bits.size == 0 or bits.size % 784 or bits.dtype.kind not in "biuf":
        raise InputError(f"{where} does not hold whole images of 784 pixels; fetch it anew.")
    if not ((bits == 0) | (bits == 1)).all():
        raise InputError(f"{where} holds pixels other than 0 and 1; fetch it anew.")
    return torch.from_numpy(bits.reshape(-1, 1, 28, 28).astype(np.uint8) * np.uint8(255))
