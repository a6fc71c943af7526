"""Pictures given one by one, by a command that shows them to a trained model."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np
import torch

from limner.data.arrays import ARRAY_SUFFIXES
from limner.data.catalogue import default_binarization
from limner.data.census import suffix_of
from limner.data.config import DataConfig
from limner.data.dataset import Dataset, Images
from limner.data.listing import listed
from limner.data.pictures import PICTURE_SUFFIXES, Unreadable, read_picture
from limner.data.pixels import suited
from limner.data.sizing import fitted, grey, rgb
from limner.errors import InputError
from limner.progress import warn

_SHOWN = 3
"""Names of damaged files in a message."""


def given(
    paths: Sequence[Path], config: DataConfig, image_shape: tuple[int, int, int], observation: str
) -> Dataset:
    """Picture files, and all pictures in folders, in this order; every split is all of them.

    They are brought to `image_shape` (C, H, W) and binarized as the images in `config`. A folder
    needs no splits, and its pictures are sorted by name.

    Raises:
        InputError: a file that cannot be read as a picture, unless `config` skips damaged files.
    """
    ends = None if Path(config.name).suffix.lower() in ARRAY_SUFFIXES else config.range
    names, levels, damaged, resized = [], [], [], 0
    others = Counter[str]()
    for name, file, is_asked_for in _opened(paths):
        try:
            with file:
                picture = read_picture(file, ends).levels
        except Unreadable as error:
            if is_asked_for:
                damaged.append(f"{name} ({error})")
            else:
                others[suffix_of(name) or "without suffix"] += 1
            continue
        resized += picture.shape[:2] != image_shape[1:]
        levels.append(_shaped(picture, config, image_shape))
        names.append(name)
    if others:
        warn("Left out: " + ", ".join(f"{count:,} {kind}" for kind, count in others.items()) + ".")
    if not names and not damaged:
        raise InputError("There are no pictures in these folders; give others.")
    _report(damaged, resized, len(names), config, image_shape)
    images = Images(torch.from_numpy(np.stack(levels)), names=tuple(names))
    count = f"{len(names):,} picture{'s' if len(names) > 1 else ''}"
    usual = config.binarization or default_binarization(config.name)
    dataset = Dataset(count, usual, config.draw_seed, image_shape, images, images, images)
    dataset = suited(dataset, observation, config.binarization)
    if observation == "bernoulli" and dataset.binarization == "none" and not dataset.is_binary:
        warn("The model knows only black and white: levels from 128 on count as white.")
        return suited(dataset, observation, "threshold")
    return dataset


def _shaped(
    picture: np.ndarray, config: DataConfig, image_shape: tuple[int, int, int]
) -> np.ndarray:
    """Levels [C, H, W] of a picture [H, W] or [H, W, 3]."""
    channels, height, width = image_shape
    picture = fitted(picture, (height, width), config.fit)
    if channels == 1:
        return (grey(picture) if picture.ndim == 3 else picture)[None]
    return (picture if picture.ndim == 3 else rgb(picture)).transpose(2, 0, 1)


def _opened(paths: Sequence[Path]) -> Iterator[tuple[str, IO[bytes], bool]]:
    """Names, files, and whether each must be a picture: others in a folder may be left out.

    A file has its own name, one in a folder the name that it has there.
    """
    files: list[tuple[str, Path, bool]] = []
    for path in paths:
        if path.is_dir():
            found = listed(path).names
            if not found:
                raise InputError(f"There are no pictures in {path}; give another folder.")
            files += [(name, path / name, suffix_of(name) in PICTURE_SUFFIXES) for name in found]
        else:
            files.append((path.name, path, True))
    names = [name for name, *_ in files]
    unique = len(set(names)) == len(names)
    for name, path, is_asked_for in files:
        try:
            file = path.open("rb")
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
        with ExitStack() as stack:
            yield (name if unique else str(path)), stack.enter_context(file), is_asked_for


def _report(
    damaged: Sequence[str],
    resized: int,
    count: int,
    config: DataConfig,
    image_shape: tuple[int, int, int],
) -> None:
    """Say what was changed and left out, or refuse files that are damaged."""
    if damaged:
        shown = ", ".join(damaged[:_SHOWN])
        more = f" and {len(damaged) - _SHOWN:,} more" if len(damaged) > _SHOWN else ""
        if not config.skip_damaged or not count:
            raise InputError(
                f"Not readable as pictures: {shown}{more}; leave them out with "
                "--data.skip-damaged, or give arrays with --data.name."
                if count
                else f"Not readable as pictures: {shown}{more}; give others, or arrays with "
                "--data.name."
            )
        warn(f"Left out, because they cannot be read as pictures: {shown}{more}.")
    if resized:
        _, height, width = image_shape
        done = {"crop": "cropped and ", "pad": "padded and ", "stretch": "stretched and "}
        warn(
            f"{resized:,} of {count:,} pictures are {done[config.fit]}brought to the model's size, "
            f"{width} x {height} (width x height)."
        )
