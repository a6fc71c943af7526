"""Labels as people save them: whole numbers, words or one-hot rows."""

from collections.abc import Mapping

import numpy as np

from limner.data.numpy_files import MOST_WHOLE, FileArray
from limner.errors import InputError
from limner.progress import warn

Classes = tuple[dict[str, np.ndarray], tuple[str, ...] | None]


def classes_of(stored: Mapping[str, FileArray], counts: Mapping[str, int]) -> Classes:
    """Int64 class numbers [N] of each split, and class names if the labels are words.

    Nothing and one line of warning if a split has labels that are no classes. `InputError` if their
    number is not that of the images.
    """
    found: dict[str, np.ndarray] = {}
    for split, labels in stored.items():
        if labels.shape[:1] != (counts[split],):
            raise InputError(
                f"{labels.where} has labels of shape {labels.shape} for {counts[split]} images; "
                "give one whole number or word per image, or leave them out."
            )
        classes = _classes(labels)
        if classes is None:
            warn(
                f"{labels.where} is ignored: its labels ({labels.dtype}, shape {labels.shape}) are "
                "not one class per image."
            )
            return {}, None
        found[split] = classes
    if all(classes.dtype.kind == "i" for classes in found.values()):
        return found, None
    words = {split: classes.astype(str) for split, classes in found.items()}
    names = np.unique(np.concatenate(list(words.values())))
    numbers = {split: np.searchsorted(names, part) for split, part in words.items()}
    return numbers, tuple(map(str, names))


def class_names_of(
    stored: FileArray | None, classes: Mapping[str, np.ndarray]
) -> tuple[str, ...] | None:
    """The names in an array of words; None if there are none, or too few for the class numbers."""
    if not classes or stored is None or len(stored.shape) != 1:
        return None
    numbers = np.concatenate(list(classes.values()))
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < stored.shape[0]:
        return None
    return names_of(stored, stored.shape[0])


def names_of(stored: FileArray | None, count: int) -> tuple[str, ...] | None:
    """The words in an array of `count` words; None if it is not."""
    if stored is None or stored.shape != (count,) or stored.dtype.kind != "U":
        return None
    return tuple(map(str, stored.whole()))


def may_be_classes(stored: FileArray, count: int) -> bool:
    """Whether an array of any name is one whole number or word per image, with repetitions."""
    if stored.shape not in ((count,), (count, 1)) or stored.dtype.kind not in "iubUS":
        return False
    classes = _classes(stored)
    return classes is not None and len(np.unique(classes)) < count


def _classes(stored: FileArray) -> np.ndarray | None:
    """Int64 class numbers or words [N]; None if the labels are neither."""
    count, *rest = stored.shape
    if len(rest) > 1 or stored.dtype.itemsize * int(np.prod(stored.shape)) > MOST_WHOLE:
        return None
    values = stored.whole()
    if rest and rest[0] > 1:
        return _from_one_hot(values)
    values = values.reshape(count)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "latin-1")
    if values.dtype.kind == "U":
        return _numbers(values) if stored.text else values
    return _whole(values)


def _from_one_hot(rows: np.ndarray) -> np.ndarray | None:
    if rows.dtype.kind not in "buif" or not ((rows == 0) | (rows == 1)).all():
        return None
    return rows.argmax(axis=1).astype(np.int64) if (rows.sum(axis=1) == 1).all() else None


def _whole(values: np.ndarray) -> np.ndarray | None:
    if values.dtype.kind == "b":
        return values.astype(np.int64)
    if values.dtype.kind not in "uif":
        return None
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.rint(values))).all():
        return None
    if values.max() >= 2**63 or values.min() < -(2**63):
        return None
    return values.astype(np.int64)


def _numbers(words: np.ndarray) -> np.ndarray:
    """Whole numbers, if all words are; otherwise the words."""
    try:
        numbers = _whole(words.astype(np.float64))
    except ValueError:
        return words
    return words if numbers is None else numbers
