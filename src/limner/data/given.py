"""Pictures given one by one, by a command that shows them to a trained model."""

import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch

from limner.data.arrays import ARRAY_SUFFIXES, every_image
from limner.data.census import suffix_of
from limner.data.config import DataConfig
from limner.data.dataset import Dataset, Images
from limner.data.decoding import Decoder
from limner.data.known import default_binarization
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
    """Picture files, and all images in folders, zips and arrays, in this order, as every split.

    They are brought to `image_shape` (C, H, W) and binarized as the images in `config`. A folder
    needs no splits, and its pictures are sorted by name. Images of arrays keep their order and are
    named by file and place, from 0; `range` and `shape` of `config` apply to them if its own images
    are arrays, otherwise `range` applies to the pictures.

    Raises:
        InputError: a file that cannot be read as a picture, unless `config` skips damaged files.
    """
    names, levels, damaged, resized = [], [], [], 0
    others = Counter[str]()
    for name, picture, is_asked_for in _pictures(paths, config):
        if isinstance(picture, Unreadable):
            if is_asked_for:
                damaged.append(f"{name} ({picture})")
            else:
                others[suffix_of(name) or "without suffix"] += 1
            continue
        resized += picture.shape[:2] != image_shape[1:]
        levels.append(_shaped(picture, config, image_shape))
        names.append(name)
    if others:
        warn("Left out: " + ", ".join(f"{count:,} {kind}" for kind, count in others.items()) + ".")
    if not names and not damaged:
        raise InputError("There are no pictures in what is given; give others.")
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


def _pictures(
    paths: Sequence[Path], config: DataConfig
) -> Iterator[tuple[str, np.ndarray | Unreadable, bool]]:
    """Names, levels [H, W] or [H, W, 3], and whether each must be a picture.

    Others in a folder or a zip may be left out. A file has its own name, one in a folder the name
    that it has there.
    """
    on_arrays = Path(config.name).suffix.lower() in ARRAY_SUFFIXES
    plain = DataConfig(range=config.range, shape=config.shape) if on_arrays else DataConfig()
    with ExitStack() as stack:
        files = [file for path in paths for file in _files(path, stack)]
        unique = len({file.name for file in files}) == len(files)
        for file in files:
            name = file.name if unique else str(file.path)
            if file.opened is not None:
                yield name, _read(file, None if on_arrays else config.range), file.is_asked_for
                continue
            for place, levels in enumerate(_every_image(file.path, plain)):
                channels_last = levels.transpose(1, 2, 0)
                picture = channels_last[..., 0] if len(levels) == 1 else channels_last
                yield f"{name} {place}", np.ascontiguousarray(picture), True


class _File(NamedTuple):
    """A picture that `opened` opens, or a file of arrays."""

    name: str
    path: Path
    is_asked_for: bool
    opened: Callable[[], IO[bytes]] | None


def _files(path: Path, stack: ExitStack) -> list[_File]:
    """A file, or those in a folder or a zip, which stays open as long as the stack."""
    is_zip = path.is_file() and path.suffix.lower() == ".zip"
    if not path.is_dir() and not is_zip:
        is_array = path.suffix.lower() in ARRAY_SUFFIXES
        return [_File(path.name, path, True, None if is_array else partial(path.open, "rb"))]
    found = listed(path).names
    if not found:
        raise InputError(f"There are no pictures in {path}; give others.")
    decoder = stack.enter_context(
        closing(Decoder(str(path), is_zip, "", 0, None, None, "auto", None))
    )
    return [
        _File(name, path / name, suffix_of(name) in PICTURE_SUFFIXES, partial(decoder.opened, name))
        for name in found
    ]


def _read(file: _File, ends: tuple[float, float] | None) -> np.ndarray | Unreadable:
    """The levels of a picture, or why it has none."""
    assert file.opened is not None
    try:
        with file.opened() as stream:
            return read_picture(stream, ends).levels
    except Unreadable as error:
        return error
    except OSError as error:
        raise _refused(file.path, error) from None
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        return Unreadable("damaged", str(error))


def _every_image(path: Path, config: DataConfig) -> Iterator[np.ndarray]:
    """Levels [C, H, W]; errors advise no flags that commands for given pictures do not have."""
    try:
        yield from every_image(path, config)
    except OSError as error:
        raise _refused(path, error) from None
    except InputError as error:
        why, flags, _ = str(error).partition("; pass --data.")
        if not flags:
            raise
        raise InputError(
            f"{why}; give levels from 0 to 255 as integers, in an array [N, H, W] or [N, H, W, 3]."
        ) from None


def _refused(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be read: {error.strerror or error}.")


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
        which = f"{resized:,} of {count:,} pictures {'is' if resized == 1 else 'are'}"
        warn(
            f"{'The picture is' if count == 1 else which} {done[config.fit]}brought to the model's "
            f"size, {width} x {height} (width x height)."
        )
