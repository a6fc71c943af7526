"""Datasets of images and labels that are given as arrays or tensors in Python."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from limner.data.array_images import blocks_of, image_shape, images_of
from limner.data.arrays import found_in, one_shape, reported
from limner.data.catalogue import dataset_of
from limner.data.config import Augmentation, Binarization, Colour, DataConfig, Fit
from limner.data.dataset import SPLITS, Dataset, Found, Images, check_size
from limner.data.given_values import as_array, as_labels
from limner.data.labels import class_names_of, classes_of
from limner.data.layouts import layout_of
from limner.data.numpy_files import FileArray, in_memory
from limner.data.splits import HeldOut, complete, keys_of
from limner.data.stored import Rows
from limner.errors import InputError, enough_memory, in_python
from limner.progress import Report, progress_bar, warn

Arrays = npt.ArrayLike | Tensor | Sequence[Tensor]
"""A numpy array, a tensor, anything that numpy takes for an array, or a list of these."""
SAVINGS = "give fewer images, or a smaller size"
_NUMBERS = (int, float, np.integer, np.floating)
_PURPOSES = {"validation": "choose the best weights by", "test": "measure the model on"}


def from_arrays(
    images: Arrays,
    labels: Arrays | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    validation: float | Arrays | tuple[Arrays, Arrays] = 0.1,
    test: float | Arrays | tuple[Arrays, Arrays] = 0.1,
    seed: int = 0,
    binarization: Binarization | None = None,
    fit: Fit = "crop",
    colour: Colour = "auto",
    range: tuple[float, float] | None = None,
    shape: tuple[int, ...] | None = None,
    augment: Augmentation | None = None,
    name: str = "images",
) -> Dataset:
    """Your own images as a dataset. All of them are copied as 8-bit levels.

    `images`: [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 to 4 channels: grey or RGB, with or
    without alpha, which is composited on white. They are uint8 levels, bool, or floats in [0, 1];
    `range` gives the values of black and white in others, such as (-1, 1), and `shape` the shape of
    one image if the axes are unclear. `labels`: [N] whole numbers or words, or one-hot rows.

    `validation`, `test`: a share of the images in (0, 1), a number of images (an int), images of
    their own, or a pair (images, labels). Shares are cut by the content of each image and `seed`,
    so that equal images stay together, and an image that is added never moves a training image
    to another split. A share is therefore not exact.

    `size` (a side, or height and width), `fit`, `colour`, `binarization` and `augment` are those of
    `DataConfig`. `seed` also draws fixed binarization.

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
            augment=augment or Augmentation(),
        )
        held_out = held_out_of(validation, test)
        own = {
            split: part if isinstance(part, tuple) and len(part) == 2 else (part, None)
            for split, part in own_splits(validation, test).items()
        }
        return _dataset({"train": (images, labels)} | own, held_out, config)


def _dataset(
    pairs: Mapping[str, tuple[object, object]], held_out: HeldOut, config: DataConfig
) -> Dataset:
    where: dict[str, str] = {"train": "images", "validation": "validation", "test": "test"}
    arrays = {
        split: in_memory(as_array(images, where[split]), where[split])
        for split, (images, _) in pairs.items()
    }
    layouts = {
        split: layout_of(array.shape, config.shape, array.where) for split, array in arrays.items()
    }
    shape = one_shape({split: image_shape(layouts[split], config) for split in layouts}, "images")
    count = sum(layout.number for layout in layouts.values())
    check_size(count, prod(shape), "images")
    splits: dict[str, Images] = {}
    contents: list[np.ndarray] = []
    for split, layout in layouts.items():
        with progress_bar(f"Reading {where[split]}", layout.number) as show:
            blocks = _shown(blocks_of(arrays[split], layout, config), show)
            known = contents if split == "train" else None
            splits[split] = images_of(Rows(layout.number, blocks), shape, known)
    found = found_in([(arrays[split], layout) for split, layout in layouts.items()])
    labels = {split: labels for split, (_, labels) in pairs.items()}
    given = Given(splits, keys_of(np.concatenate(contents)), labels, None, found)
    return dataset_from(given, held_out, config)


def _shown(
    blocks: Iterator[tuple[np.ndarray, np.ndarray]], show: Report
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    done = 0
    for block in blocks:
        yield block
        done += len(block[0])
        show(done, "")


class Given(NamedTuple):
    """Images in memory before they are split: `keys` decide the split of each training image.

    `labels`: those of each split as they were given, or None; `class_names`: what their numbers
    mean, if that is known.
    """

    splits: Mapping[str, Images]
    keys: Sequence[bytes]
    labels: Mapping[str, object]
    class_names: tuple[str, ...] | None
    found: Found


def dataset_from(given: Given, held_out: HeldOut, config: DataConfig) -> Dataset:
    """The dataset of images that are given in Python, after missing splits are cut."""
    splits = dict(given.splits)
    _check_counts(len(splits["train"]), held_out, [name for name in SPLITS if name not in splits])
    labels, names = _classes(given)
    for split, numbers in labels.items():
        splits[split] = replace(splits[split], labels=torch.from_numpy(numbers))
    three = complete(splits, config.draw_seed, config.name, given.keys, held_out)
    source = reported(three, names, given.found, config.name)
    return replace(dataset_of(source, config), source=None)


def _classes(given: Given) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Class numbers of every split, and the names of classes; nothing if a split has no labels."""
    stored: dict[str, FileArray] = {}
    for split, labels in given.labels.items():
        if labels is not None:
            where = "labels" if split == "train" else f"labels of {split}"
            stored[split] = in_memory(as_labels(labels, where), where)
    if len(stored) < len(given.splits):
        if stored:
            without = next(split for split in given.splits if split not in stored)
            which = "the images have" if without == "train" else f"{without} has"
            warn(f"All labels are ignored, because {which} none.")
        return {}, None
    classes, names = classes_of(stored, {split: len(part) for split, part in given.splits.items()})
    if names is not None or given.class_names is None:
        return classes, names
    known = in_memory(np.array(given.class_names), "class names")
    names = class_names_of(known, classes)
    if names is None:
        warn(f"The labels are ignored: they are no numbers of {len(given.class_names)} classes.")
    return (classes, names) if names else ({}, None)


def own_splits(validation: object, test: object) -> dict[str, object]:
    """Those of the two that are images, not numbers."""
    parts: dict[str, object] = {"validation": validation, "test": test}
    return {split: part for split, part in parts.items() if not isinstance(part, _NUMBERS)}


def held_out_of(validation: object, test: object) -> HeldOut:
    """What is cut of the training images, a tenth for a split that is given as images.

    Raises:
        InputError: a number that is neither a share nor a number of images, or leaves none.
    """
    own_test = not isinstance(test, _NUMBERS)
    amounts = {"validation": _amount(validation, "validation"), "test": _amount(test, "test")}
    shares = {name: amount for name, amount in amounts.items() if isinstance(amount, float)}
    if own_test:  # the share of validation begins after the first tenth, if there is room
        amounts["test"] = min(0.1, 1 - shares.get("validation", 0.0))
    elif sum(shares.values()) >= 1:
        raise InputError(
            f"validation={validation} and test={test} leave no images to train on; give smaller "
            "shares."
        )
    return HeldOut(**amounts)


def _amount(given: object, name: str) -> float:
    if not isinstance(given, _NUMBERS):
        return 0.1
    advice = "give a share such as 0.1, a number of images such as 500, or the images themselves"
    if given == 0:
        raise InputError(f"{name}=0 leaves no images to {_PURPOSES[name]}; {advice}.")
    is_whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if isinstance(given, bool) or not (given > 0 and (is_whole or given < 1)):
        raise InputError(
            f"{name}={given} is neither a share between 0 and 1 nor a number of images; {advice}."
        )
    return int(given) if is_whole else float(given)


def _check_counts(count: int, held_out: HeldOut, missing: Sequence[str]) -> None:
    """`InputError` if the numbers of images for the missing splits are all that there are."""
    numbers = {split: getattr(held_out, split) for split in missing}
    numbers = {split: n for split, n in numbers.items() if isinstance(n, int)}
    if sum(numbers.values()) >= count and numbers:
        asked = " and ".join(f"{split}={n}" for split, n in numbers.items())
        raise InputError(
            f"{asked} of {count:,} images would leave none to train on; give smaller numbers."
        )
