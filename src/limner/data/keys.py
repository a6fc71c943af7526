"""Which arrays of a file are images and labels, by name."""

from collections.abc import Iterable

from limner.data.dataset import SPLIT_WORDS, Split

IMAGES = ("images", "image", "x", "data", "imgs", "pixels")
LABELS = ("labels", "label", "y", "targets", "target", "classes", "class")
CLASS_NAMES = "class_names"
"""The key of the names of the classes, of which a label is the place."""
_SPLIT_IMAGES = ("x_{}", "images_{}", "{}_images", "{}_x", "{}_data", "{}")
_SPLIT_LABELS = ("y_{}", "labels_{}", "{}_labels", "{}_y", "{}_targets", "{}_label")


def named(keys: Iterable[str], wanted: Iterable[str]) -> str | None:
    """The first of `wanted` that is a key, ignoring case; None if there is none."""
    lower = {key.lower(): key for key in keys}
    return next((lower[name] for name in wanted if name in lower), None)


def image_key(keys: Iterable[str], split: Split) -> str | None:
    """The key of a split's images, such as x_train, train_images, train_data or train."""
    return _of_split(keys, split, _SPLIT_IMAGES)


def label_key(keys: Iterable[str], split: Split) -> str | None:
    """The key of a split's labels, such as y_train or train_labels."""
    return _of_split(keys, split, _SPLIT_LABELS)


def name_key(split: str) -> str:
    """The key of the names of a split's images."""
    return f"{split}_names"


def _of_split(keys: Iterable[str], split: Split, forms: tuple[str, ...]) -> str | None:
    return named(keys, [form.format(word) for word in SPLIT_WORDS[split] for form in forms])
