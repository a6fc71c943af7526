"""Datasets of torch, of Hugging Face, and plain sequences of images, read into memory."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.utils.data

from limner.data.array_images import refitted
from limner.data.arrays import one_shape
from limner.data.census import Census
from limner.data.config import Augmentation, Binarization, Colour, DataConfig, Fit
from limner.data.dataset import Dataset, Found, Images, check_size, named_splits
from limner.data.given_values import is_picture
from limner.data.in_memory import SAVINGS, Given, dataset_from, held_out_of, own_splits
from limner.data.items import (
    Indexed,
    Read,
    Table,
    is_file,
    item_of,
    read_image,
    table_of,
    values_of,
)
from limner.data.pictures import Unreadable
from limner.data.splits import HeldOut
from limner.data.values import misfit
from limner.errors import InputError, enough_memory, in_python, worded
from limner.progress import progress_bar, warn

Items = Indexed[object] | torch.utils.data.Dataset[object]
"""A dataset of torch or Hugging Face with a length, or a sequence."""
_ENOUGH = 1000
"""Images that are read at least before several sizes are refused."""
_SEEN = 100
"""Images whose values decide which range a message names."""


def from_dataset(
    dataset: Items | Mapping[str, Items],
    *,
    size: int | tuple[int, int] | None = None,
    validation: float | Items = 0.1,
    test: float | Items = 0.1,
    seed: int = 0,
    binarization: Binarization | None = None,
    fit: Fit = "crop",
    colour: Colour = "auto",
    range: tuple[float, float] | None = None,
    shape: tuple[int, ...] | None = None,
    skip_damaged: bool = False,
    augment: Augmentation | None = None,
    name: str = "images",
) -> Dataset:
    """A dataset of torch or Hugging Face, or a sequence, read once into memory as 8-bit levels.

    It has a length and items by place, which are images, pairs (image, label), or mappings with
    names such as image and label. Images are pictures of Pillow, which are read as a viewer shows
    them, or arrays and tensors as in `from_arrays`: [H, W], [H, W, C] or [C, H, W]. Labels are
    whole numbers, words or one-hot. A mapping of datasets may give the splits train, validation and
    test by name. Images of several sizes need `size`.

    The other arguments are those of `from_arrays`; `skip_damaged` leaves out pictures that cannot
    be read. Names of classes are kept if the dataset knows them.

    Raises:
        InputError: images or labels that have no clear meaning, or are too few or too many.
    """
    with in_python(), enough_memory(SAVINGS):
        config = DataConfig(
            name=name,
            size=size,
            binarization=binarization or "none",
            draw_seed=seed,
            fit=fit,
            colour=colour,
            range=range,
            shape=shape,
            skip_damaged=skip_damaged,
            augment=augment or Augmentation(),
        )
        parts = _named(dataset) | own_splits(validation, test)
        held_out = held_out_of(parts.get("validation", validation), parts.get("test", test))
        return _dataset(parts, held_out, config)


def _named(dataset: object) -> dict[str, object]:
    """The splits of a mapping by name; otherwise the dataset is the training images."""
    if not isinstance(dataset, Mapping):
        return {"train": dataset}
    found = named_splits(map(str, dataset), "dataset")
    if "train" not in found:
        raise InputError(
            f"dataset has no split train; it has {', '.join(map(str, dataset)) or 'nothing'}."
        )
    by_name = {str(name): part for name, part in dataset.items()}
    return {split: by_name[name] for split, name in found.items()}


@dataclass
class _Split:
    """The images of one split that were read, with their labels and the keys that decide splits."""

    images: Images
    keys: list[bytes]
    labels: list[object]
    class_names: tuple[str, ...] | None
    census: Census

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.levels.shape[1:]
        return channels, height, width


def _dataset(parts: Mapping[str, object], held_out: HeldOut, config: DataConfig) -> Dataset:
    where = {"train": "dataset", "validation": "validation", "test": "test"}
    read = {split: _read(part, where[split], config) for split, part in parts.items()}
    if config.colour == "auto" and len({part.shape[0] for part in read.values()}) > 1:
        for split, part in read.items():
            coloured = config.with_(colour="rgb", size=None)
            part.images = refitted(part.images, coloured, where[split])
    one_shape({split: part.shape for split, part in read.items()}, "dataset")
    names = {part.class_names for part in read.values() if part.class_names}
    if len(names) > 1:
        raise InputError("The splits of dataset have different names of classes; make them equal.")
    given = Given(
        {split: part.images for split, part in read.items()},
        read["train"].keys,
        {split: part.labels if _any(part.labels) else None for split, part in read.items()},
        next(iter(names), None),
        _found([part.census for part in read.values()]),
    )
    return dataset_from(given, held_out, config)


def _any(labels: Sequence[object]) -> bool:
    return any(label is not None for label in labels)


def _read(dataset: object, where: str, config: DataConfig) -> _Split:
    table = table_of(dataset, where)
    count = len(table.rows)
    if not count:
        raise InputError(f"{where} is empty; give images.")
    census, buffer = Census(where), _Buffer(count, where)
    keys: list[bytes] = []
    labels: list[object] = []
    with progress_bar(f"Reading {where}", count) as show:
        for place in range(count):
            item = item_of(table.rows[place], table, f"{where}[{place}]")
            read = _image(item.image, census, table, place, config)
            if read is not None:
                buffer.append(read.levels)
                keys.append(read.key)
                labels.append(item.label)
            show(place + 1, "")
            if config.size is None and len(census.sizes) > 1 and place + 1 >= _ENOUGH:
                break
    _check(census, buffer.size, config)
    return _Split(Images(buffer.levels()), keys, labels, table.class_names, census)


def _image(
    image: object, census: Census, table: Table, place: int, config: DataConfig
) -> Read | None:
    """An image, which is noted in the census; None if it cannot be read."""
    where, name = census.where, f"row {place}"
    try:
        read = read_image(image, config, f"{where}[{place}]")
    except InputError:
        raise
    except Unreadable as error:
        census.add(name, ["", error.kind, str(error), error.format])
        return None
    except Exception as error:  # Pillow raises many kinds
        census.add(name, ["", "damaged", str(error) or type(error).__name__])
        return None
    if read is None:
        raise misfit(_values(table, place, config, where), config.range, where)
    census.add(name, read.answer)
    return read


def _values(table: Table, start: int, config: DataConfig, where: str) -> Iterator[np.ndarray]:
    """The values of an image and of some after it that have the same type."""
    kind = None
    for place in range(start, min(start + _SEEN, len(table.rows))):
        image = item_of(table.rows[place], table, where).image
        if image is None or is_picture(image) or is_file(image):
            continue
        values = values_of(image, config, where)
        kind = kind or values.dtype
        if values.dtype == kind:
            yield values


def _check(census: Census, size: tuple[int, int], config: DataConfig) -> None:
    """Refuse images that cannot be trained on, and say if few of them make all of them RGB."""
    if config.size is None:
        census.check_sizes(size)
    if not config.skip_damaged or not census.sizes:
        census.check_skipped(Counter())
    if config.range is None:
        census.check_peaks()
    _, why = census.colours(config.colour)
    if why:
        warn(worded(f"{census.where}: {why}"))


def _found(read: Sequence[Census]) -> Found:
    sizes = sum((census.sizes for census in read), Counter[str]())
    modes = sum((census.modes for census in read), Counter[str]())
    skipped = ", ".join(filter(None, (census.skipped(Counter()) for census in read)))
    return Found(sizes, modes, skipped)


class _Buffer:
    """Levels [C, H, W] of images of one size: one channel until the first in colour."""

    def __init__(self, count: int, where: str):
        self._count, self._where, self._filled = count, where, 0
        self._levels = np.empty((0, 1, 1, 1), np.uint8)

    @property
    def size(self) -> tuple[int, int]:
        height, width = self._levels.shape[2:]
        return height, width

    def append(self, levels: np.ndarray) -> None:
        """Add an image; one of another size than the first is left out."""
        if not self._filled or len(levels) > self._levels.shape[1]:
            self._widen(levels.shape)
        if levels.shape[1:] == self.size:
            self._levels[self._filled] = levels  # grey in RGB is repeated
            self._filled += 1

    def _widen(self, shape: tuple[int, ...]) -> None:
        size = self.size if self._filled else shape[1:]
        check_size(self._count, shape[0] * math.prod(size), self._where)
        levels = np.empty((self._count, shape[0], *size), np.uint8)
        if self._filled:
            levels[: self._filled] = self._levels[: self._filled]
        self._levels = levels

    def levels(self) -> torch.Tensor:
        """Uint8 [N, C, H, W]."""
        whole = self._filled == self._count
        return torch.from_numpy(self._levels if whole else self._levels[: self._filled].copy())
