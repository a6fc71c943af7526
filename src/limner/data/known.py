"""The datasets by name: what each is and what it needs. torch is imported only to read one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limner.data.config import Binarization, DataConfig

if TYPE_CHECKING:
    from limner.data.dataset import Source


@dataclass(frozen=True)
class Entry:
    """One line of `limner data list`, and how to load or fetch it.

    `read(root)` returns the splits; `fetch(root)` returns checked files, [] for installed images.
    `read_from_train(root)` returns splits whose test images are training images (`test_from`).
    """

    name: str
    description: str
    binarization: Binarization
    needs: str
    read: "Callable[[Path | None], Source]"
    fetch: Callable[[Path | None], list[Path]]
    read_from_train: "Callable[[Path | None], Source] | None" = None


def _module(name: str) -> Any:
    return import_module(f"limner.data.{name}")


def _archived(name: str, constant: str, description: str, needs: str) -> Entry:
    """The entry of a dataset in MNIST's files, described by a constant of `limner.data.mnist`."""

    def read(root: Path | None) -> "Source":
        mnist = _module("mnist")
        return mnist.load_archive(getattr(mnist, constant), root)

    def fetch(root: Path | None) -> list[Path]:
        mnist = _module("mnist")
        return mnist.fetch_archive(getattr(mnist, constant), root)

    return Entry(name, description, "dynamic", needs, read, fetch)


def _cifar(constant: str, description: str, needs: str, can_test_from_train: bool) -> Entry:
    """The entry of a dataset that is described by a constant of `limner.data.cifar`."""

    def described() -> Any:
        return getattr(_module("cifar"), constant)

    return Entry(
        constant.lower(),
        description,
        "none",
        needs,
        lambda root: described().load(root),
        lambda root: described().fetch(root),
        (lambda root: described().load_from_train(root)) if can_test_from_train else None,
    )


CATALOGUE: tuple[Entry, ...] = (
    Entry(
        "mnist-5k",
        "5,000 MNIST digits, 28x28, split 4,000 / 500 / 500",
        "dynamic",
        "nothing: part of Limner",
        lambda root: _module("installed").mnist_5k(),
        lambda root: [],
    ),
    Entry(
        "digits",
        "1,797 handwritten digits, 8x8, split 1,297 / 250 / 250",
        "dynamic",
        "nothing: part of scikit-learn",
        lambda root: _module("installed").digits(),
        lambda root: [],
    ),
    _archived(
        "mnist",
        "MNIST",
        "MNIST digits, 28x28, split 50,000 / 10,000 / 10,000",
        "four IDX files, or a download of 11 MB",
    ),
    _archived(
        "fashion-mnist",
        "FASHION_MNIST",
        "Fashion-MNIST clothes, 28x28, split 50,000 / 10,000 / 10,000",
        "four IDX files, or a download of 30 MB",
    ),
    Entry(
        "static-mnist",
        "MNIST with one fixed binarization (Larochelle), split 50,000 / 10,000 / 10,000",
        "static",
        "binarized_mnist.npz or three .amat files, or a download",
        lambda root: _module("static_mnist").StaticMNIST().load(root),
        lambda root: _module("static_mnist").StaticMNIST().fetch(root),
    ),
    Entry(
        "omniglot",
        "OMNIGLOT characters, 28x28, split 23,000 / 1,345 / 8,070",
        "dynamic",
        "chardata.mat, or a download",
        lambda root: _module("omniglot").Omniglot().load(root),
        lambda root: _module("omniglot").Omniglot().fetch(root),
    ),
    _cifar(
        "CIFAR10",
        "CIFAR-10 photographs, 32x32 RGB, split 45,000 / 5,000 / 10,000",
        "cifar-10-binary.tar.gz or its six .bin files, or a download of 162 MB",
        can_test_from_train=True,
    ),
    _cifar(
        "CIFAR100",
        "CIFAR-100 photographs, 32x32 RGB, split 45,000 / 5,000 / 10,000",
        "cifar-100-binary.tar.gz or its two .bin files, or a download of 161 MB",
        can_test_from_train=False,
    ),
    Entry(
        "svhn",
        "SVHN house numbers, cropped to 32x32 RGB, split 66,000 / 7,257 / 26,032",
        "none",
        "train_32x32.mat and test_32x32.mat, or a download of 235 MB",
        lambda root: _module("svhn").SVHN().load(root),
        lambda root: _module("svhn").SVHN().fetch(root),
    ),
)


TAKEN_FROM = {"mnist-5k": ("mnist", "static-mnist")}
"""Datasets whose images are training images of others: compared pixel by pixel, all of mnist-5k
are among the first 5,848 of MNIST."""


def seen_in_training(trained_on: str, shown: str) -> str | None:
    """The warning about results on `shown` if they were training images in `trained_on`."""
    if trained_on not in TAKEN_FROM.get(shown, ()):
        return None
    return (
        f"All images of {shown} are training images of {trained_on}, on which this model was "
        "trained: the results show how well it remembers them, not how well it generalizes; "
        f"evaluate it on {trained_on}."
    )


def names() -> tuple[str, ...]:
    """The names in the catalogue."""
    return tuple(entry.name for entry in CATALOGUE)


def find(name: str, catalogue: Sequence[Entry] = CATALOGUE) -> Entry | None:
    """The entry of that name."""
    return next((entry for entry in catalogue if entry.name == name), None)


def known_observation(config: DataConfig) -> str | None:
    """The observation that fits images of the catalogue, without loading them; None for others."""
    entry = find(config.name)
    if entry is None:
        return None
    levels = (config.binarization or entry.binarization) == "none"
    binary = entry.binarization == "static"
    return "discretized_logistic" if levels and not binary else "bernoulli"


def default_binarization(name: str, catalogue: Sequence[Entry] = CATALOGUE) -> Binarization:
    """The binarization of a dataset if its config leaves it open."""
    entry = find(name, catalogue)
    return entry.binarization if entry else "none"
