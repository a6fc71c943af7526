"""Datasets, loaded from a name in the catalogue, from the Hub or from a path."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from limner.data.array_images import refitted
from limner.data.arrays import ARRAY_SUFFIXES, load_arrays
from limner.data.augmentation import check_augmentation
from limner.data.config import DataConfig
from limner.data.dataset import SPLITS, Dataset, Source
from limner.data.folder import load_folder
from limner.data.hub import load_hub
from limner.data.known import CATALOGUE, Entry, default_binarization, find, names
from limner.errors import InputError, nearest, unknown


def load(config: DataConfig, catalogue: Sequence[Entry] = CATALOGUE) -> Dataset:
    """The dataset that `config` names, read, checked and split.

    A name in the catalogue wins (write ./mnist for a folder of that name), then `hub:NAME`, then a
    path. By default your own images are not binarized.
    Raises `InputError` for an unknown name, for files that are missing, damaged or altered, and for
    a setting that has no meaning for such images.
    """
    entry = find(config.name, catalogue)
    with _readable(config.name):
        for name in unused(config, catalogue):
            flag = f"--data.{name.replace('_', '-')}"
            raise InputError(
                f"{flag} has no meaning for the images of {config.name}; leave it out."
            )
        source = _built_in(entry, config) if entry else _own(config)
    return dataset_of(source, config, catalogue)


def dataset_of(
    source: Source, config: DataConfig, catalogue: Sequence[Entry] = CATALOGUE
) -> Dataset:
    """The splits of a source with what `config` says of their pixels and augmentation."""
    channels, height, width = source.train.levels.shape[1:]
    binarization = config.binarization or default_binarization(config.name, catalogue)
    fixed = binarization in ("static", "threshold")
    check_augmentation(config.augment, (channels, height, width), fixed)
    return Dataset(
        name=" ".join(filter(None, (config.name, source.note))),
        binarization=binarization,
        draw_seed=config.draw_seed,
        image_shape=(channels, height, width),
        train=source.train,
        validation=source.validation,
        test=source.test,
        class_names=source.class_names,
        found=source.found,
        augment=config.augment,
        source=config,
    )


def fetch(
    name: str, root: Path | None = None, catalogue: Sequence[Entry] = CATALOGUE
) -> list[Path]:
    """The checked files of a dataset, downloaded to `root` (or the user's cache) if missing.

    The list is empty for installed images.
    """
    entry = find(name, catalogue)
    if entry is None:
        raise unknown("dataset", name, names())
    with _readable(name):
        return entry.fetch(root)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turns errors of the file system, and too little memory, into an `InputError`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}.") from None
    except MemoryError:
        raise InputError(f"{name} does not fit in memory; use fewer images.") from None


def other_images(
    data: DataConfig, image_shape: tuple[int, int, int], **given: object
) -> DataConfig:
    """`data` with the settings that are `given`, for a model of images of `image_shape`.

    Your own images are brought to the model's size and colours. Settings of `data` that have no
    meaning for the new images are left out.
    """
    if given.get("name", data.name) not in (data.name, *names()):
        channels, *size = image_shape
        given |= {"size": tuple(size), "colour": "grey" if channels == 1 else "rgb"}
    changed = data.with_(**given)
    return changed.with_(**dict.fromkeys(unused(changed)))


def unused(config: DataConfig, catalogue: Sequence[Entry] = CATALOGUE) -> list[str]:
    """The settings of `config` that are given, and that have no meaning for its images."""
    path = _path(config)
    entry = find(config.name, catalogue)
    without: tuple[str, ...] = ()
    if entry is not None:
        without = ("range", "shape", "group_by")
    elif config.name.startswith("hub:") or path.is_dir() or path.suffix.lower() == ".zip":
        without = ("shape",)
    elif path.suffix.lower() in ARRAY_SUFFIXES:
        without = ("group_by",)
    if entry is None or entry.read_from_train is None:
        without += ("test_from",)
    return [name for name in without if getattr(config, name) is not None]


def _built_in(entry: Entry, config: DataConfig) -> Source:
    """A dataset of the catalogue with its own splits, in the size and colour asked for."""
    read = entry.read if config.test_from is None else entry.read_from_train
    assert read is not None  # `load` has refused the setting
    source = read(config.root)
    return replace(
        source,
        **{split: refitted(getattr(source, split), config, entry.name) for split in SPLITS},
    )


def _path(config: DataConfig) -> Path:
    path = Path(config.name)
    with suppress(RuntimeError):  # an unknown user
        path = path.expanduser()
    if config.root is not None and (config.root / path).exists():
        return config.root / path
    return path


def _own(config: DataConfig) -> Source:
    if config.name.startswith("hub:"):
        return load_hub(config.name.removeprefix("hub:"), config.root, config)
    path = _path(config)
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".zip"):
        return load_folder(path, config)
    if path.is_file() and path.suffix.lower() in ARRAY_SUFFIXES:
        return load_arrays(path, config)
    if path.is_file():
        raise InputError(
            f"{path} is no file of images; give a folder or .zip of pictures, or arrays in .npz, "
            ".npy, .pt or .csv."
        )
    raise InputError(
        f"There is no dataset and no file {config.name!r}; {nearest(config.name, names())}choose "
        f"one of {', '.join(names())}, hub:NAME, or a path to a folder or zip of pictures, or to "
        f"arrays ({', '.join(ARRAY_SUFFIXES)}). A relative path starts at the present folder, or "
        "at --data.root."
    )
