"""Images in memory, and how a collection is split into train, validation and test."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from limner.data.config import Augmentation, Binarization, DataConfig, Split, in_words
from limner.data.mapped import forget
from limner.errors import InputError

SPLIT_WORDS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
}
"""The splits, and the names of folders and arrays, in lower case, that mean each of them."""
EVALUATION = ("eval", "evaluation")
"""Words for test that mean validation if there is a test split and no validation."""
_FILLERS = frozenset({"set", "split", "data", "dataset", "images", "image", "imgs", "img"})
SPLITS: tuple[Split, ...] = tuple(SPLIT_WORDS)
MAX_BYTES = 8 * 2**30


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one split.

    `levels`: uint8 [N, C, H, W], 0..255, in memory or mapped from a file of the pixel cache;
    `labels`: int64 [N], or None; `names`: the file of each image, or None; `digests`: uint64 [N],
    a hash of the pixels of each image, if it is known (`limner.data.splits.digests` computes it).
    """

    levels: Tensor
    labels: Tensor | None = None
    names: tuple[str, ...] | None = None
    digests: np.ndarray | None = None

    def __len__(self) -> int:
        return self.levels.shape[0]

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.levels.shape[1:]))
        return f"<Images: {len(self):,} of {shape}{'' if self.labels is None else ', labelled'}>"

    def take(self, index: np.ndarray | slice) -> "Images":
        """The images at `index`, in its order."""
        at = index if isinstance(index, slice) else torch.from_numpy(index)
        labels = None if self.labels is None else self.labels[at]
        names = None if self.names is None else tuple(np.array(self.names, object)[index])
        known = None if self.digests is None else self.digests[index]
        return Images(self.levels[at], labels, names, known)


@dataclass(frozen=True)
class Found:
    """What a reader met in the files, for messages and `limner data show`."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    """Number of images of each size, such as 64 x 48 (width x height), before they were fitted."""
    modes: Mapping[str, int] = field(default_factory=dict)
    """Number of images of each kind of pixel in the files, such as 8-bit RGB."""
    skipped: str = ""
    """Files that were not read, in one line by kind; empty if there are none."""
    duplicates: int = 0
    """Images that are in more than one split, pixel by pixel."""
    shared_groups: int = 0
    """Groups by file name that are in more than one split, which the source gave so."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of 8-bit images, and how their pixels are binarized for a model.

    `image_shape` is (C, H, W). `binarization` is never None here; `draw_seed` is the seed of
    binarization that is sampled once. `class_names[k]` is the name of label k, if known.
    `augment` changes the images of training batches only. `source` loads the same images again;
    None if they were given in Python.
    """

    name: str
    binarization: Binarization
    draw_seed: int
    image_shape: tuple[int, int, int]
    train: Images
    validation: Images
    test: Images
    class_names: tuple[str, ...] | None = None
    found: Found | None = None
    augment: Augmentation = field(default_factory=Augmentation)
    source: DataConfig | None = None

    def __repr__(self) -> str:
        counts = " / ".join(f"{len(self.split(name)):,}" for name in SPLITS)
        classes = f", {len(self.class_names)} classes" if self.class_names else ""
        binarized = "" if self.binarization == "none" else f", {in_words(self.binarization)}"
        shape = " x ".join(map(str, self.image_shape))
        return f"<Dataset {self.name}: {counts} images of {shape}{classes}{binarized}>"

    def _repr_html_(self) -> str:
        from limner.data.shown import html_of

        return html_of(self)

    def split(self, name: Split) -> Images:
        """One split by name."""
        if name not in SPLITS:
            raise InputError(f"There is no split {name!r}; choose one of {', '.join(SPLITS)}.")
        return getattr(self, name)

    @cached_property
    def is_binary(self) -> bool:
        """Whether every pixel of every split is 0 or 255."""
        return all(_is_binary(getattr(self, name).levels) for name in SPLITS)


@dataclass(frozen=True, eq=False)
class Source:
    """What a reader returns to `load`: splits, class names, and what it met in the files."""

    train: Images
    validation: Images
    test: Images
    class_names: tuple[str, ...] | None = None
    found: Found | None = None
    note: str = ""
    """What follows the name of the dataset wherever it is shown."""


def named_splits(names: Iterable[str], where: str) -> dict[Split, str]:
    """The splits that `names` has, each with its name there, such as Valid or val2017.

    Case, digits and words like set and images do not matter. `eval` means test, or validation if
    there is a test split and no validation. Raises `InputError` if two names mean one split.
    """
    found: dict[Split, str] = {}
    meant = sorted((_plain(name) in EVALUATION, name) for name in names)
    for is_evaluation, name in meant:
        split: Split | None = next(
            (split for split, words in SPLIT_WORDS.items() if _plain(name) in words), None
        )
        if is_evaluation and "test" in found and "validation" not in found:
            split = "validation"
        if split in found:
            raise InputError(
                f"{where} has two splits for {split}, {found[split]} and {name}; rename or merge "
                "them."
            )
        if split is not None:
            found[split] = name
    return {split: found[split] for split in SPLITS if split in found}


def unclear_splits(names: Iterable[str]) -> list[str]:
    """Folders that seem to be splits with more in their names, such as trainA and testA.

    They are those that have words for different splits, and the same other words, or are all.
    """
    hints: dict[str, tuple[Split, str]] = {}
    names = sorted(names)
    for name in names:
        words = [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
        for split, known in SPLIT_WORDS.items():
            of_split = [word for word in words if word.removesuffix("set") in known]
            if of_split:
                hints[name] = split, " ".join(word for word in words if word != of_split[0])
    if len({split for split, _ in hints.values()}) > 1 and len(hints) == len(names):
        return names
    for name, (split, rest) in hints.items():
        for other, (another, same) in hints.items():
            if split != another and rest == same:
                return [name, other]
    return []


def _plain(name: str) -> str:
    """A name without case, digits, signs and words that do not matter."""
    words = re.sub("[^a-z]+", " ", name.lower()).split()
    kept = [word.removesuffix("set") for word in words if word not in _FILLERS]
    return " ".join(kept)


def stratified_order(labels: np.ndarray | None, count: int, seed: int) -> np.ndarray:
    """A shuffle of range(count) in which every prefix has the classes in proportion.

    Image r of the m images of a class, in random order, gets the position (r + 1/2) / m. Sorted by
    position, with ties in random order, each class is within one image of its share in any prefix.
    RandomState, because numpy promises that its stream never changes (NEP 19).
    """
    random = np.random.RandomState(seed % 2**32)
    shuffled = random.permutation(count)
    if labels is None:
        return shuffled
    place = np.empty(count)
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(place, kind="stable")]


def split_off(images: Images, sizes: tuple[int, ...], seed: int) -> list[Images]:
    """`images` split at random, stratified by label: the rest, then splits of `sizes`."""
    labels = None if images.labels is None else images.labels.numpy()
    order = stratified_order(labels, len(images), seed)
    cuts = np.cumsum([len(images) - sum(sizes), *sizes])[:-1]
    return [images.take(part) for part in np.split(order, cuts)]


def check_size(count: int, pixels: int, where: str) -> None:
    """Refuse more than `MAX_BYTES` of pixels, before memory is allocated."""
    if count * pixels > MAX_BYTES:
        raise InputError(
            f"{where} would need {count * pixels / 2**30:.1f} GiB for its pixels, and Limner's "
            f"limit is {MAX_BYTES / 2**30:.0f} GiB; use fewer or smaller images."
        )


def _is_binary(levels: Tensor) -> bool:
    for place, part in enumerate(_parts(levels)):
        if not ((part == 0) | (part == 255)).all():
            return False
        if place % 256 == 255:
            forget(levels)
    return True


def _parts(levels: Tensor) -> Iterator[Tensor]:
    """Slices of about a megabyte: the first usually has a grey pixel, and masks stay small."""
    step = max(1, 2**20 // max(1, levels[0].numel())) if len(levels) else 1
    yield from levels.split(step)
