"""Real images that are installed with Limner; nothing is downloaded."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from limner.data.dataset import Images, Source, split_off
from limner.data.numpy_files import open_npz

DIGITS = tuple(str(digit) for digit in range(10))


@cache
def mnist_5k() -> Source:
    """5,000 MNIST digits (28x28, 500 per class) as 4,000 / 500 / 500, stratified.

    The file is sorted by class. The split does not depend on any seed.
    """
    arrays = open_npz(Path(__file__).with_name("mnist_5k.npz"))
    return _split(arrays["images"].whole()[:, None], arrays["labels"].whole(), (500, 500))


@cache
def digits() -> Source:
    """scikit-learn's 1,797 digits (8x8) as 1,297 / 250 / 250, stratified; 0..16 becomes 0..255."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    levels = np.rint(np.asarray(pixels).reshape(-1, 1, 8, 8) * (255 / 16))
    return _split(levels, np.asarray(labels), (250, 250))


def _split(pixels: np.ndarray, labels: np.ndarray, sizes: tuple[int, int]) -> Source:
    images = Images(
        torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels.astype(np.int64))
    )
    train, validation, test = split_off(images, sizes, seed=0)
    return Source(train, validation, test, DIGITS)
