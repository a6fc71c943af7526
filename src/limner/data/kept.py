"""A dataset as one file of arrays, so that what was given in Python can be loaded again."""

import os
from pathlib import Path

import numpy as np

from limner.data.config import DataConfig
from limner.data.dataset import SPLITS, Dataset
from limner.data.keys import CLASS_NAMES, name_key
from limner.errors import InputError


def keep(dataset: Dataset, path: Path) -> None:
    """Write a dataset to an uncompressed .npz file, which `kept_as` loads again.

    The file is replaced as a whole. Its arrays are train_images, uint8 [N, H, W, C], train_labels,
    train_names and so on, and class_names. Labels are kept if every split has them.

    Raises:
        InputError: the file cannot be written.
    """
    if path.suffix.lower() != ".npz":
        raise InputError(f"{path} must end in .npz to be loaded again; rename it.")
    arrays = _arrays(dataset)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        temporary.unlink(missing_ok=True)


def kept_as(dataset: Dataset, path: Path) -> DataConfig:
    """The config that loads an equal dataset from the file that `keep` writes."""
    channels, height, width = dataset.image_shape
    return DataConfig(
        name=path.name,
        root=path.resolve().parent,
        binarization=dataset.binarization,
        draw_seed=dataset.draw_seed,
        range=(0, 255),
        shape=(height, width, channels),
        augment=dataset.augment,
    )


def _arrays(dataset: Dataset) -> dict[str, np.ndarray]:
    splits = {split: dataset.split(split) for split in SPLITS}
    arrays = {
        f"{split}_images": images.levels.permute(0, 2, 3, 1).numpy()
        for split, images in splits.items()
    }
    for split, images in splits.items():
        if images.labels is not None and all(part.labels is not None for part in splits.values()):
            arrays[f"{split}_labels"] = images.labels.numpy()
        if images.names is not None:
            arrays[name_key(split)] = np.array(images.names)
    if dataset.class_names is not None:
        arrays[CLASS_NAMES] = np.array(dataset.class_names)
    return arrays
