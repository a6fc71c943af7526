"""Images and labels in arrays as people save them: .npz, .npy, .pt and .csv."""

import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from limner.data import cache
from limner.data.array_images import blocks_of, image_shape, images_of
from limner.data.config import DataConfig
from limner.data.dataset import SPLITS, Found, Images, Source
from limner.data.gathered import report
from limner.data.keys import CLASS_NAMES, IMAGES, LABELS, image_key, label_key, name_key, named
from limner.data.labels import class_names_of, classes_of, may_be_classes, names_of
from limner.data.layouts import Layout, layout_of
from limner.data.needs import TooFew, unsplit
from limner.data.numpy_files import FileArray, check_no_objects, open_npy, open_npz
from limner.data.splits import complete, digests, keys_of, repeated
from limner.data.stored import Rows, stored
from limner.errors import InputError
from limner.progress import warn

ARRAY_SUFFIXES = (".npz", ".npy", ".pt", ".pth", ".csv")
MOST_IN_MEMORY = 2**30
_TICK = 0.05
"""Seconds in which a file can change and keep its time of change."""
_SETTINGS = {"size", "fit", "colour", "range", "shape"}


def load_arrays(path: Path, config: DataConfig) -> Source:
    """The images in a file of arrays, with its labels and splits.

    An image is [H, W], [H, W, C] or [C, H, W] with 1 to 4 channels: grey or RGB, with or without
    alpha, which is composited on white. Values become levels as `config.range` says; missing splits
    are taken from train. More than `MOST_IN_MEMORY` bytes of pixels go to the pixel cache.
    """
    arrays, shape = _opened(path, config.shape)
    chosen = _chosen(arrays, shape, path)
    layouts = {split: _layout(images, shape) for split, (images, _) in chosen.items()}
    image = one_shape({split: image_shape(layouts[split], config) for split in layouts}, str(path))
    _report_rest(arrays, [array for pair in chosen.values() for array in pair], shape, path)
    labels, names = _classes(chosen, layouts)
    names = names or class_names_of(arrays.get(CLASS_NAMES), labels)
    rows = {
        split: Rows(
            layout.number,
            blocks_of(chosen[split][0], layout, config),
            labels.get(split),
            names_of(arrays.get(name_key(split)), layout.number),
        )
        for split, layout in layouts.items()
    }
    found = found_in([(chosen[split][0], layout) for split, layout in layouts.items()])
    size = math.prod(image) * sum(layout.number for layout in layouts.values())
    if size > MOST_IN_MEMORY:
        check_disk(2 * size, path)
        key = _identity(path, config)
        return report(
            stored(key, str(path), image, rows, config.draw_seed, names, found), str(path)
        )
    contents: list[np.ndarray] = []
    splits = {
        split: images_of(part, image, contents if split == "train" else None)
        for split, part in rows.items()
    }
    known = keys_of(np.concatenate(contents)) if contents else None
    try:
        three = complete(splits, config.draw_seed, str(path), known)
    except TooFew as error:
        error.source = unsplit(splits, names, found)
        raise
    return reported(three, names, found, str(path))


def reported(
    splits: tuple[Images, Images, Images],
    class_names: tuple[str, ...] | None,
    found: Found,
    where: str,
) -> Source:
    """The splits in memory, after a line if they have images in common."""
    hashes = np.concatenate([digests(images) for images in splits])
    found = replace(found, duplicates=repeated(hashes, [len(images) for images in splits]))
    return report(Source(*splits, class_names, found), where)


def every_image(path: Path, config: DataConfig) -> Iterator[np.ndarray]:
    """Levels [C, H, W] of all images in a file of arrays, one by one: train, validation, test."""
    arrays, shape = _opened(path, config.shape)
    for images, _ in _chosen(arrays, shape, path).values():
        for levels, _ in blocks_of(images, _layout(images, shape), config):
            yield from levels


def check_disk(size: int, path: Path) -> None:
    """`InputError` if the disk of the pixel cache has fewer bytes free than `size`."""
    place = next(part for part in (cache.folder(), *cache.folder().parents) if part.exists())
    free = shutil.disk_usage(place).free
    if size > free:
        raise InputError(
            f"The pixels of {path} need {size / 2**30:.1f} GiB in {cache.folder()}, which has "
            f"{free / 2**30:.1f} GiB free; free some space (limner data cache --clear empties the "
            "cache), choose another folder with XDG_CACHE_HOME, or pass a smaller --data.size."
        )


def _identity(path: Path, config: DataConfig) -> list[object]:
    """What the pixels of a file depend on, as values of JSON."""
    state, place = path.stat(), os.fsencode(path.resolve()).hex()
    if max(state.st_mtime, state.st_ctime) + _TICK > time.time():
        time.sleep(_TICK)
        state = path.stat()
    settings = config.model_dump(mode="json", include=_SETTINGS)
    times = [state.st_mtime_ns, state.st_ctime_ns]
    return ["arrays", 3, place, state.st_size, *times, state.st_ino, settings]


def one_shape(shapes: Mapping[str, tuple[int, int, int]], where: str) -> tuple[int, int, int]:
    """The shape (C, H, W) of all splits; the error names the flags that make them alike."""
    channels, sizes = zip(*((shape[0], shape[1:]) for shape in shapes.values()), strict=True)
    flags = ["--data.size"] if len(set(sizes)) > 1 else []
    flags += ["--data.colour grey or rgb"] if len(set(channels)) > 1 else []
    if flags:
        raise InputError(
            f"The splits of {where} differ in shape, {shapes}; use images of one shape, or pass "
            f"{' and '.join(flags)}."
        )
    return next(iter(shapes.values()))


def _report_rest(
    arrays: Mapping[str, FileArray],
    used: list[FileArray | None],
    shape: tuple[int, ...] | None,
    path: Path,
) -> None:
    """One line for arrays that may be images and are neither images nor labels here."""
    rest = [
        f"{key} {array.shape}"
        for key, array in arrays.items()
        if _are_images(array, shape) and not any(array is other for other in used)
    ]
    if rest:
        many = "are left out: they have" if len(rest) > 1 else "is left out: it has"
        warn(f"{path}: {', '.join(rest)} {many} no name of a split, such as x_train.")


def _classes(
    chosen: Mapping[str, tuple[FileArray, FileArray | None]], layouts: Mapping[str, Layout]
) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """The class numbers of each split, and the names of classes; none if a split has none."""
    labels = {split: found for split, (_, found) in chosen.items() if found is not None}
    if len(labels) < len(chosen):
        return {}, None
    return classes_of(labels, {split: layout.number for split, layout in layouts.items()})


def _opened(
    path: Path, shape: tuple[int, ...] | None
) -> tuple[dict[str, FileArray], tuple[int, ...] | None]:
    """The arrays in a file by name, and the shape of an image if it is known."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return {"images": open_npy(path)}, shape
    if suffix == ".npz":
        return open_npz(path), shape
    if suffix == ".csv":
        from limner.data.tables import open_csv

        return open_csv(path, shape)
    from limner.data.tensors import open_pt

    return open_pt(path), shape


def _chosen(
    arrays: Mapping[str, FileArray], shape: tuple[int, ...] | None, path: Path
) -> dict[str, tuple[FileArray, FileArray | None]]:
    """The images of each split, with their labels if there are any."""
    found: dict[str, tuple[FileArray, FileArray | None]] = {}
    for split in SPLITS:
        key = image_key(arrays, split)
        if key and (arrays[key].dtype.hasobject or _may_be_images(arrays[key], shape)):
            label = label_key(arrays, split)
            found[split] = arrays[key], arrays[label] if label else None
    if found:
        return found
    images = _images(arrays, shape, path)
    rest = {key: array for key, array in arrays.items() if key != images}
    label = named(rest, LABELS)
    if label is None:
        count = _layout(arrays[images], shape).number
        fitting = [key for key, array in rest.items() if may_be_classes(array, count)]
        label = fitting[0] if len(fitting) == 1 else None
    return {"train": (arrays[images], rest[label] if label else None)}


def _images(arrays: Mapping[str, FileArray], shape: tuple[int, ...] | None, path: Path) -> str:
    """The key of the images: by its name, or the only one that fits."""
    key = named(arrays, IMAGES)
    if key is not None and arrays[key].dtype.hasobject:
        return key
    fitting = [key for key, array in arrays.items() if _may_be_images(array, shape)]
    by_name = named(fitting, IMAGES)
    if by_name is None and not fitting:
        fitting = [key for key, array in arrays.items() if _may_be_images(array, (1, 1))]
        by_name = named(fitting, IMAGES)
    if by_name is not None:
        return by_name
    if len(fitting) == 1 or len(arrays) == 1:
        return (fitting or list(arrays))[0]
    listed = ", ".join(f"{key} {array.shape}" for key, array in arrays.items()) or "nothing"
    several = "by name, and several that may be" if fitting else "but"
    raise InputError(
        f"{path} has no array of images {several}: {listed}; call the images `images` and "
        "their classes `labels`, or x_train, y_train, x_test and so on."
    )


def _may_be_images(array: FileArray, shape: tuple[int, ...] | None) -> bool:
    enough = 2 if shape else 3
    return len(array.shape) >= enough and array.dtype.kind in "buifc"


def _are_images(array: FileArray, shape: tuple[int, ...] | None) -> bool:
    with suppress(InputError):
        return _may_be_images(array, shape) and _layout(array, shape).number > 0
    return False


def _layout(images: FileArray, shape: tuple[int, ...] | None) -> Layout:
    check_no_objects(images.dtype, images.where)
    return layout_of(images.shape, shape, images.where)


def found_in(arrays: list[tuple[FileArray, Layout]]) -> Found:
    """Sizes and kinds of the images, for messages."""
    sizes: dict[str, int] = {}
    modes: dict[str, int] = {}
    for array, layout in arrays:
        height, width, channels = layout.image
        size, mode = f"{width} x {height}", mode_of("text" if array.text else array.dtype, channels)
        sizes[size] = sizes.get(size, 0) + layout.number
        modes[mode] = modes.get(mode, 0) + layout.number
    return Found(sizes, modes)


def mode_of(kind: object, channels: int) -> str:
    """The kind of pixels in an array, such as float32 RGB."""
    return f"{kind} {('grey', 'grey with alpha', 'RGB', 'RGB with alpha')[channels - 1]}"
