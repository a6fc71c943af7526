"""Image datasets of the Hugging Face Hub, with the extra `[hub]`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limner.data.dataset import Images, Source, named_splits
from limner.data.pictures import levels_of_picture, refusing, stack
from limner.data.splits import complete
from limner.errors import InputError

# No leading dot or slash: the library would read such a name as a path on this machine.
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def load_hub(name: str, root: Path | None, seed: int) -> Source:
    """The images of `NAME` or `OWNER/NAME`, cached by the `datasets` library (in `root` if given).

    The first column of images and the first column of class labels are used. Missing splits are
    taken from train with `seed`.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is not the name of a Hub dataset; write hub:NAME or hub:OWNER/NAME."
        )
    tables = _tables(name, root)
    some = next(iter(tables.values()))
    image = _column(some.features, "Image")
    if image is None:
        raise InputError(f"hub:{name} has no column of images; choose another dataset.")
    label = _column(some.features, "ClassLabel")
    names = None if label is None else tuple(some.features[label].names)
    with refusing(f"hub:{name}"):
        splits = {
            split: Images(_levels(table, image, name), _labels(table, label, len(names or ())))
            for split, table in tables.items()
        }
    return Source(*complete(splits, seed, f"hub:{name}"), names)


def _tables(name: str, root: Path | None) -> dict[str, Any]:
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            f"hub:{name} needs the datasets library; install it with pip install 'limner[hub]'."
        ) from None
    try:
        found = load_dataset(name, cache_dir=None if root is None else str(root))
    except Exception as error:  # the library, its network stack and its builders raise many kinds
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"hub:{name} could not be loaded ({first}); correct the name, or try again later."
        ) from None
    tables = {split: found[word] for split, word in named_splits(found).items()}
    if not tables:
        raise InputError(f"hub:{name} has no split train; it has {', '.join(found)}.")
    return tables


def _column(features: Any, kind: str) -> str | None:
    return next((key for key, value in features.items() if type(value).__name__ == kind), None)


def _levels(table: Any, image: str, name: str) -> torch.Tensor:
    def pictures() -> Iterator[tuple[str, np.ndarray]]:
        for place, row in enumerate(table.select_columns([image])):
            if row[image] is None:
                raise InputError(f"hub:{name} has no image in row {place}; choose another dataset.")
            yield f"row {place}", levels_of_picture(row[image])

    return stack(pictures(), f"hub:{name}")


def _labels(table: Any, label: str | None, classes: int) -> torch.Tensor | None:
    """Class numbers; None if the labels of a split are hidden, which the Hub writes as -1."""
    if label is None:
        return None
    labels = np.asarray(table[label], dtype=np.int64)
    known = ((labels >= 0) & (labels < classes)).all()
    return torch.from_numpy(labels) if known else None
