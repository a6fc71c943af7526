"""Images and labels in arrays as people save them: .npz, .npy, .pt and .csv."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.data.config import DataConfig
from limner.data.dataset import SPLITS, Found, Images, Source, complete
from limner.data.keys import IMAGES, LABELS, image_key, label_key, named
from limner.data.labels import classes_of, may_be_classes
from limner.data.layouts import Layout, layout_of
from limner.data.sizing import fitted, grey, rgb
from limner.data.numpy_files import Stored, check_no_objects, in_memory, open_npy, open_npz
from limner.data.values import DARKEST, as_levels, misfit, too_dark
from limner.errors import InputError

ARRAY_SUFFIXES = (".npz", ".npy", ".pt", ".pth", ".csv")


def load_arrays(path: Path, config: DataConfig) -> Source:
    """The images in a file of arrays, with its labels and splits.

    An image is [H, W], [H, W, C] or [C, H, W] with 1 to 4 channels: grey or RGB, with or without
    alpha, which is composited on white. Values become levels as `config.range` says; missing splits
    are taken from train.
    """
    arrays, shape = _opened(path, config.shape)
    chosen = _chosen(arrays, shape, path)
    layouts = {split: _layout(images, shape) for split, (images, _) in chosen.items()}
    counts = {split: layout.number for split, layout in layouts.items()}
    labelled = {split: labels for split, (_, labels) in chosen.items() if labels is not None}
    classes, names = None, None
    if len(labelled) == len(chosen):
        classes, names = classes_of(labelled, counts)
    splits: dict[str, Images] = {}
    for split, (images, _) in chosen.items():
        levels = _levels(images, layouts[split], config)
        labels = torch.from_numpy(classes[split]) if classes else None
        splits[split] = Images(levels, labels)
    found = _found([(chosen[split][0], layouts[split]) for split in chosen])
    return Source(*complete(splits, config.draw_seed, str(path)), names, found)


def levels_of(array: np.ndarray, where: str, config: DataConfig | None = None) -> Tensor:
    """Uint8 levels [N, C, H, W] of an array of images, with the settings of `config`."""
    config = config or DataConfig()
    layout = layout_of(array.shape, config.shape, where)
    return _levels(in_memory(array, where), layout, config)


def _opened(
    path: Path, shape: tuple[int, ...] | None
) -> tuple[dict[str, Stored], tuple[int, ...] | None]:
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
    arrays: Mapping[str, Stored], shape: tuple[int, ...] | None, path: Path
) -> dict[str, tuple[Stored, Stored | None]]:
    """The images of each split, with their labels if there are any."""
    found: dict[str, tuple[Stored, Stored | None]] = {}
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


def _images(arrays: Mapping[str, Stored], shape: tuple[int, ...] | None, path: Path) -> str:
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


def _may_be_images(array: Stored, shape: tuple[int, ...] | None) -> bool:
    enough = 2 if shape else 3
    return len(array.shape) >= enough and array.dtype.kind in "buifc"


def _layout(images: Stored, shape: tuple[int, ...] | None) -> Layout:
    check_no_objects(images.dtype, images.where)
    return layout_of(images.shape, shape, images.where)


def _levels(stored: Stored, layout: Layout, config: DataConfig) -> Tensor:
    """Uint8 levels [N, C, H, W] of all images of an array."""
    blocks = _blocks(stored, layout, config)
    first = next(blocks)
    levels = np.empty((layout.number, *first.shape[1:]), np.uint8)
    levels[: len(first)] = first
    start = len(first)
    for block in blocks:
        levels[start : start + len(block)] = block
        start += len(block)
    return torch.from_numpy(levels)


def _blocks(stored: Stored, layout: Layout, config: DataConfig) -> Iterator[np.ndarray]:
    """Uint8 levels [n, C, H, W], a block of images at a time."""
    peak = 0
    for block in _values(stored, layout):
        levels = as_levels(block, config.range, stored.text)
        if levels is None:
            raise misfit(_values(stored, layout), config.range, stored.where)
        peak = max(peak, int(levels.max()))
        yield _finished(levels, config)
    if (stored.dtype == np.uint8 or stored.text) and not config.range and 0 < peak <= DARKEST:
        raise too_dark(peak, stored.where)


def _values(stored: Stored, layout: Layout) -> Iterator[np.ndarray]:
    """The images [n, H, W, C] of an array with the values that it has, a block at a time."""
    if layout.order == "rows":
        return map(layout.images, stored.blocks())
    images = layout.images(stored.whole())
    return in_memory(images, stored.where).blocks()


def _finished(images: np.ndarray, config: DataConfig) -> np.ndarray:
    """Levels [n, C', H', W'] of levels [n, H, W, C]: without alpha, in the size and colour asked.

    Grey stays grey and colour stays colour if `config.colour` is auto.
    """
    images = _on_white(images)
    size = config.height_width
    if size is not None and images.shape[1:3] != size:
        flat = images[..., 0] if images.shape[3] == 1 else images
        images = np.stack([fitted(np.ascontiguousarray(image), size, config.fit) for image in flat])
        images = images.reshape(len(flat), *size, -1)
    if config.colour == "grey" and images.shape[3] == 3:
        images = grey(images)[..., None]
    elif config.colour == "rgb" and images.shape[3] == 1:
        images = rgb(images[..., 0])
    return images.transpose(0, 3, 1, 2)


def _on_white(images: np.ndarray) -> np.ndarray:
    """Images [..., 1 or 3] of images [..., C]: those with alpha, C = 2 or 4, over white."""
    if images.shape[-1] in (1, 3):
        return images
    colours, alpha = images[..., :-1].astype(np.uint32), images[..., -1:].astype(np.uint32)
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _found(arrays: list[tuple[Stored, Layout]]) -> Found:
    """Sizes and kinds of the images, for messages."""
    sizes: dict[str, int] = {}
    modes: dict[str, int] = {}
    words = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGB with alpha"}
    for stored, layout in arrays:
        height, width, channels = layout.image
        size, mode = f"{width} x {height}", f"{stored.dtype} {words[channels]}"
        sizes[size] = sizes.get(size, 0) + layout.number
        modes[mode] = modes.get(mode, 0) + layout.number
    return Found(sizes, modes)
