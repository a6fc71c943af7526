"""Static MNIST: one fixed Bernoulli draw of MNIST, without labels.

Salakhutdinov and Murray 2008; the files are Larochelle's.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from limner.data.dataset import SPLITS, Images, Source, check_size
from limner.data.download import cache_folder, download
from limner.data.keys import image_key
from limner.data.numpy_files import open_npz
from limner.errors import InputError

NPZ = "binarized_mnist.npz"
AMAT = tuple(f"binarized_mnist_{split}.amat" for split in ("train", "valid", "test"))
SHA1 = (
    "cf70514ec5f481e54ad3eb0e6c03c83326ff96f8",
    "13418487742e6ea6d48db7b5187353a20b1b1f8c",
    "ca70bd7775e182596dec148d4dc1bc6bd6c4c5f4",
)
"""As published, of the text of the three .amat files."""


@dataclass(frozen=True)
class StaticMNIST:
    """50,000 / 10,000 / 10,000 images of 28x28.

    Larochelle's own server is gone; the mirror has a copy of his files, by the authors of MADE.
    """

    mirrors: tuple[str, ...] = ("https://github.com/mgermain/MADE/releases/download/ICML2015/",)
    sha1: tuple[str, ...] = SHA1

    def load(self, root: Path | None) -> Source:
        train, validation, test = self._read(self.paths(root))
        return Source(Images(train), Images(validation), Images(test))

    def paths(self, root: Path | None) -> list[Path]:
        """The .npz or the three .amat files in `root`; without `root` in the cache, downloaded."""
        folder = root if root is not None else cache_folder("static-mnist")
        for place in (folder, folder / "static-mnist", folder / "binarized_mnist"):
            for files in ((NPZ,), AMAT):
                paths = [place / file for file in files]
                if all(path.is_file() for path in paths):
                    return paths
        if root is None:
            return self.fetch(None)
        raise InputError(
            f"{root} has neither {NPZ} nor {', '.join(AMAT)}; correct --data.root, or leave it "
            "out to download the file."
        )

    def fetch(self, root: Path | None) -> list[Path]:
        """The .npz in `root`, or in the cache, downloaded if missing."""
        folder = root if root is not None else cache_folder("static-mnist")
        path = download(NPZ, self.mirrors, folder, lambda path: self._read([path]))
        self._read([path])
        return [path]

    def _read(self, paths: list[Path]) -> list[torch.Tensor]:
        """The levels of the three splits, checked: of an .npz, the same text is made."""
        found = _read_npz(paths[0]) if len(paths) == 1 else [_read_amat(path) for path in paths]
        for split, levels, sha1 in zip(SPLITS, found, self.sha1, strict=True):
            if (actual := hashlib.sha1(_text(levels), usedforsecurity=False).hexdigest()) != sha1:
                raise InputError(
                    f"{paths[0].parent} does not hold Larochelle's files: SHA-1 of the {split} "
                    f"images is {actual} instead of {sha1}; download them again, or give other "
                    "binary images as your own."
                )
        return found


def _text(levels: torch.Tensor) -> memoryview:
    """Images as in an .amat file: lines of 0 and 1 with blanks between them."""
    bits = levels.flatten(1).numpy() > 0
    text = np.full((len(bits), 2 * bits.shape[1]), ord(" "), np.uint8)
    text[:, 0::2] = bits + np.uint8(ord("0"))
    text[:, -1] = ord("\n")
    return text.data


def _read_npz(path: Path) -> list[torch.Tensor]:
    arrays = open_npz(path)
    keys = list(arrays)
    chosen = [image_key(keys, split) for split in SPLITS]
    if not all(chosen):
        chosen = [f"arr_{place}" if f"arr_{place}" in keys else None for place in range(3)]
    wanted = [key for key in chosen if key is not None]
    if len(wanted) < len(SPLITS):
        raise InputError(
            f"{path} has arrays {', '.join(keys) or 'none'}; it needs train_data, valid_data and "
            "test_data."
        )
    return [_levels(arrays[key].whole(), arrays[key].where) for key in wanted]


def _read_amat(path: Path) -> torch.Tensor:
    """One image per line: 784 numbers 0 or 1, separated by blanks."""
    check_size(path.stat().st_size, 1, str(path))
    text = np.frombuffer(path.read_bytes(), np.uint8)
    if not np.isin(text, np.frombuffer(b"01 \t\r\n", np.uint8)).all():
        raise InputError(f"{path} has characters other than 0, 1 and blanks; download it again.")
    return _levels(text[(text == ord("0")) | (text == ord("1"))] == ord("1"), str(path))


def _levels(bits: np.ndarray, where: str) -> torch.Tensor:
    if bits.size == 0 or bits.size % 784 or bits.dtype.kind not in "biuf":
        raise InputError(f"{where} does not have whole images of 784 pixels; download it again.")
    if not ((bits == 0) | (bits == 1)).all():
        raise InputError(f"{where} has pixels other than 0 and 1; download it again.")
    return torch.from_numpy(bits.reshape(-1, 1, 28, 28).astype(np.uint8) * np.uint8(255))
