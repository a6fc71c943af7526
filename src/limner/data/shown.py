"""A dataset as a notebook shows it: its splits in a table, and some training images."""

import base64
import io

import numpy as np
from torch import Tensor

from limner import notebook
from limner.data.config import in_words
from limner.data.dataset import SPLITS, Dataset
from limner.data.pixels import evenly

_THUMBNAILS = 10
_SIDE = 64
"""Pixels of the longer side of a thumbnail."""
_CLASSES = 12


def html_of(dataset: Dataset) -> str:
    """A table of splits and shape, and a row of training images as a PNG inside the text."""
    _, height, width = dataset.image_shape
    kind = "grey" if dataset.image_shape[0] == 1 else "RGB"
    cells = [(split, f"{len(dataset.split(split)):,}") for split in SPLITS]
    cells += [("image", f"{width} x {height} {kind}"), ("pixels", in_words(dataset.binarization))]
    classes = _classes(dataset)
    if classes:
        cells.append(("classes", classes))
    headings, row = zip(*cells, strict=True)
    strip = _strip(evenly(dataset.train, _THUMBNAILS).levels)
    return notebook.page(
        notebook.title(dataset.name),
        notebook.table(headings, [row]),
        f'<img alt="training images" src="data:image/png;base64,{strip}">',
    )


def _classes(dataset: Dataset) -> str:
    if dataset.class_names is not None:
        more = len(dataset.class_names) - _CLASSES
        shown = ", ".join(dataset.class_names[:_CLASSES])
        return f"{shown} and {more:,} more" if more > 0 else shown
    labels = dataset.train.labels
    return "" if labels is None else f"{len(labels.unique()):,}"


def _strip(levels: Tensor) -> str:
    """Images side by side, in base64: small ones are enlarged without smoothing."""
    from PIL import Image

    count, _, height, width = levels.shape
    if not count:
        return ""
    share = _SIDE / max(height, width)
    size = (max(1, round(width * share)), max(1, round(height * share)))
    method = Image.Resampling.NEAREST if share >= 1 else Image.Resampling.LANCZOS
    page = Image.new("RGB", (count * (size[0] + 4) - 4, size[1]), "white")
    for place, image in enumerate(levels.permute(0, 2, 3, 1).numpy()):
        pixels = np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image)
        picture = Image.fromarray(pixels).resize(size, method).convert("RGB")
        page.paste(picture, (place * (size[0] + 4), 0))
    file = io.BytesIO()
    page.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
