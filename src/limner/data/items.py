"""One item of a dataset, of torch, of Hugging Face or a plain sequence: its image and its label."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import numpy as np
from torch import Tensor

from limner.data.array_images import finished
from limner.data.arrays import mode_of
from limner.data.config import DataConfig
from limner.data.given_values import as_array, is_picture
from limner.data.hub import column_of, picture_in, undecoded
from limner.data.keys import IMAGES, LABELS, named
from limner.data.layouts import layout_of
from limner.data.splits import keys_of, value_digests
from limner.data.values import as_levels
from limner.errors import InputError

T_co = TypeVar("T_co", covariant=True)
_IMAGE_COLUMNS = (*IMAGES, "img", "picture", "pixel_values")


class Indexed(Protocol[T_co]):
    """Items by place, from 0."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> T_co: ...


class Item(NamedTuple):
    """An image and a label of any kind; the label may be None."""

    image: object
    label: object = None


class Table(NamedTuple):
    """A dataset as rows, and the columns of images and labels if its rows have known columns."""

    rows: Indexed[object]
    image: str | None = None
    label: str | None = None
    class_names: tuple[str, ...] | None = None


class Read(NamedTuple):
    """An image as levels [C, H, W], what a `Decoder` answers on it, and the key of its split."""

    levels: np.ndarray
    answer: list
    key: bytes


def table_of(dataset: Any, where: str) -> Table:
    """How the items of a dataset are read.

    Images of a Hugging Face dataset are taken as their files, unless it has a transform of its own.

    Raises:
        InputError: it has no length, or its items have no place.
    """
    if isinstance(dataset, str | bytes) or not (
        hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    ):
        raise InputError(
            f"{where} is of type {type(dataset).__name__}, which has no length or no items by "
            "place; give a dataset or a sequence, such as list(...) of a finite iterable, or the "
            "dataset of a DataLoader."
        )
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping) and hasattr(dataset, "cast_column"):
        if dataset.format["type"] == "custom":  # the user's own transform
            return Table(dataset)
        image, label = column_of(features, "Image"), column_of(features, "ClassLabel")
        names = tuple(features[label].names) if label else None
        return Table(undecoded(dataset.with_format(None)), image, label, names)
    return Table(dataset, class_names=_class_names(dataset))


def item_of(found: Any, table: Table, where: str) -> Item:
    """The image and the label in a row: an image, a pair, or a mapping with names.

    Raises:
        InputError: it is not clear which part of the row is the image.
    """
    if hasattr(found, "_asdict"):
        fields = found._asdict()
        found = fields if named(fields, _IMAGE_COLUMNS) else tuple(found)
    if isinstance(found, Mapping) and not is_file(found):
        return _of_columns(found, table, where)
    if isinstance(found, tuple) or (isinstance(found, list) and any(map(is_image, found))):
        if len(found) not in (1, 2):
            raise InputError(
                f"{where} has {len(found)} parts; give images or pairs (image, label), such as "
                "[(image, label) for image, label, *_ in dataset]."
            )
        return Item(*found)
    return Item(found)


def read_image(image: object, config: DataConfig, where: str) -> Read | None:
    """The image in the size and colour of `config`; None if its values have another range.

    Raises:
        InputError: it is no image.
        Unreadable: a picture that is damaged, or whose values have an unknown range.
    """
    if image is None or is_picture(image) or is_file(image):
        picture = picture_in(cast(Any, image), config)
        height, width = picture.levels.shape[:2]
        values = picture.levels.reshape(1, height, width, -1)
        levels, coloured = finished(values, config)[0], picture.levels.ndim == 3
        mode, depth, peak, content = picture.mode, picture.depth, picture.peak, picture.content
        answer = ["", width, height, mode, depth, peak, coloured, content]
        return Read(levels, answer, bytes.fromhex(content))
    array = values_of(image, config, where)
    levels = as_levels(array, config.range)
    if levels is None:
        return None
    _, height, width, channels = array.shape
    peak = int(levels[..., : 1 if channels < 3 else 3].max())
    depth = 8 if array.dtype == np.uint8 else 1
    answer = ["", width, height, mode_of(array.dtype, channels), depth, peak, channels > 2, ""]
    return Read(finished(levels, config)[0], answer, keys_of(value_digests(array))[0])


def values_of(image: object, config: DataConfig, where: str) -> np.ndarray:
    """The values [1, H, W, C] of an image in an array."""
    if not (_is_array(image, 1) or isinstance(image, list)):
        raise InputError(
            f"{where} is of type {type(image).__name__}, which is no image; give images as arrays, "
            "tensors or pictures of Pillow, alone or as pairs (image, label)."
        )
    array = as_array(image, where)
    layout = layout_of((1, *array.shape), config.shape, where)
    if layout.number != 1:
        raise InputError(f"{where} has {layout.number} images; give one image per item.")
    return layout.images(array[None])


def is_file(part: object) -> bool:
    """Whether this is a picture file as Hugging Face datasets have it, before it is decoded."""
    return isinstance(part, Mapping) and {"bytes", "path"} <= set(part)


def is_image(part: object) -> bool:
    """Whether this may be an image: of Pillow, or an array with two axes or more."""
    return is_picture(part) or _is_array(part, 2)


def _is_array(part: object, axes: int) -> bool:
    has_values = isinstance(part, Tensor) or hasattr(part, "__array__")
    return has_values and len(getattr(part, "shape", ())) >= axes


def _of_columns(row: Mapping[Any, Any], table: Table, where: str) -> Item:
    names = [name for name in row if isinstance(name, str)]
    image = table.image or named(names, _IMAGE_COLUMNS)
    if image is None:
        images = [name for name in names if is_image(row[name])]
        if len(images) != 1:
            raise InputError(
                f"{where} has the keys {', '.join(map(str, row))}, and it is not clear which is "
                "the image; call it image, or give pairs (image, label)."
            )
        image = images[0]
    label = table.label or named([name for name in names if name != image], LABELS)
    return Item(row[image], None if label is None else row[label])


def _class_names(dataset: object) -> tuple[str, ...] | None:
    """The names of classes as datasets of torch have them, also those that are a part of one."""
    for _ in range(10):
        names: object = getattr(dataset, "classes", None)
        if isinstance(names, Sequence) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
        dataset = getattr(dataset, "dataset", None)
    return None
