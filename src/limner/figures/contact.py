"""A contact sheet: images of each split and class, before any training."""

import numpy as np
from matplotlib.figure import Figure

from limner.data import SPLITS, Dataset, Images
from limner.data.sizing import fitted
from limner.figures.grids import labelled_rows
from limner.figures.style import legible
from limner.pictures import RGB, to_rgb

COLUMNS, ROWS = 10, 10
_LARGEST = 160
"""Pixels of the longer side of an image; larger ones are reduced."""
_LONGEST = 20
"""Letters of a name."""


def contact_sheet(dataset: Dataset) -> Figure:
    """Rows of up to 10 images, evenly chosen.

    One row for each of the 10 most frequent classes of the training images, or 8 rows if classes
    are not known, then a row of validation and a row of test images.
    """
    rows = []
    for label, chosen in _training_rows(dataset):
        rows.append((label, _pictures(dataset.train, chosen)))
    for split in SPLITS[1:]:
        images = dataset.split(split)
        if not len(images):
            continue
        rows.append((split, _pictures(images, evenly(np.arange(len(images)), COLUMNS))))
    return labelled_rows(rows)


def evenly(places: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of `places`, from the first to the last at equal distances."""
    count = min(count, len(places))
    return places[np.linspace(0, len(places) - 1, count).round().astype(int)]


def drawable(name: str) -> str:
    """A name without its middle if it is long, with ? for what the font lacks, no mathematics."""
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST // 2 - 1]}…{name[-_LONGEST // 2 :]}"
    return legible(name).replace("$", r"\$")


def _training_rows(dataset: Dataset) -> list[tuple[str, np.ndarray]]:
    """The label of each row, and the images in it."""
    if dataset.train.labels is None:
        chosen = evenly(np.arange(len(dataset.train)), (ROWS - 2) * COLUMNS)
        starts = range(0, len(chosen), COLUMNS)
        return [("" if start else "train", chosen[start : start + COLUMNS]) for start in starts]
    labels, names = dataset.train.labels.numpy(), dataset.class_names
    classes, counts = np.unique(labels, return_counts=True)
    frequent = np.sort(classes[np.argsort(-counts, kind="stable")[:ROWS]])
    return [
        (
            f"train: {drawable(names[label] if names else str(label))}",
            evenly(np.flatnonzero(labels == label), COLUMNS),
        )
        for label in frequent
    ]


def _pictures(images: Images, places: np.ndarray) -> RGB:
    """The images at `places` [10, H, W, 3], not too large, and white if there are fewer."""
    chosen = to_rgb(np.stack([images.levels[place].numpy() for place in places]) / 255)
    height, width = chosen.shape[1:3]
    share = min(1, _LARGEST / max(height, width))
    size = max(1, round(height * share)), max(1, round(width * share))
    chosen = np.stack([fitted(image, size, "stretch") for image in chosen])
    blank = np.full((COLUMNS - len(chosen), *size, 3), 255, np.uint8)
    return np.concatenate([chosen, blank])
