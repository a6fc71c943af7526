"""A folder of PNG or JPEG files, with or without a subfolder per class."""

from pathlib import Path

import numpy as np
import torch

from limner.data.dataset import Images, Source, complete, named_splits
from limner.data.pictures import read_picture, refusing, stack
from limner.errors import InputError

_SUFFIXES = (".png", ".jpg", ".jpeg")


def load_folder(root: Path, seed: int) -> Source:
    """The pictures under `root`, all of one size, as levels.

    Subfolders are classes, numbered in the order of their names. If `root` has a subfolder train,
    then train, validation (valid, val, dev) and test are splits, each with or without classes.
    Missing splits are taken from train, stratified by class, with `seed`.
    """
    listings = {split: _listing(folder) for split, folder in _split_folders(root).items()}
    found = [path for listing in listings.values() for path, _ in listing]
    if not found:
        raise InputError(f"{root} has no PNG or JPEG files; give a folder that has some.")
    levels = stack(((str(path), _levels(path)) for path in found), str(root))
    classes = sorted({name for listing in listings.values() for _, name in listing if name})
    splits: dict[str, Images] = {}
    start = 0
    for split, listing in listings.items():
        labels = torch.tensor([classes.index(name) for _, name in listing if name])
        end = start + len(listing)
        splits[split] = Images(levels[start:end], labels.long() if classes else None)
        start = end
    return Source(*complete(splits, seed, str(root)), tuple(classes) or None)


def _levels(path: Path) -> np.ndarray:
    with refusing(str(path)), path.open("rb") as file:
        return read_picture(file).levels


def _split_folders(root: Path) -> dict[str, Path]:
    below = {path.name for path in root.iterdir() if path.is_dir()}
    folders = {split: root / name for split, name in named_splits(below).items()}
    return folders if "train" in folders else {"train": root}


def _listing(folder: Path) -> list[tuple[Path, str | None]]:
    """Pictures sorted by path, each with its class, which is the name of its subfolder."""
    listing: list[tuple[Path, str | None]] = []
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder).parts
        if path.suffix.lower() not in _SUFFIXES or any(part.startswith(".") for part in below):
            continue
        listing.append((path, below[0] if len(below) > 1 else None))
    if len({name is None for _, name in listing}) > 1:
        raise InputError(
            f"{folder} has pictures both directly and in subfolders; put all of them in "
            "subfolders, one per class, or none."
        )
    return listing
