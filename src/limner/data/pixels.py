"""From 8-bit levels to the pixels of a model: sampling, thresholds, dequantization.

All noise is uniform 16-bit words w, which cost a quarter of torch.rand. For a level k,

    x = [w' < 257 k - 32768],   w' = w with its lowest bit cleared
    P(x = 1) = ceil(257 k / 2) / 32768

is exact at 0 and 255 and within 2^-16 of k / 255 between. Dequantized, x = (k + u) / 256 with
u = (w + 32768) / 65536, which float32 holds exactly: x has 24 bits.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limner.data.config import Binarization
from limner.data.dataset import Dataset, Images, Split
from limner.data.mapped import forget
from limner.errors import InputError

Pixels = Literal["binary", "dequantized", "levels"]
OBSERVATIONS = ("bernoulli", "gaussian", "discretized_logistic", "discretized_logistic_mixture")


def pixel_kind(dataset: Dataset, observation: str) -> Pixels:
    """The kind of pixels that a model with this observation needs from this dataset.

    `binary`: 0 or 1, for `bernoulli`; `dequantized`: (level + u) / 256, for `gaussian`;
    `levels`: level / 255 exactly, for `discretized_logistic` and its mixture. `InputError` for a
    pair that has no valid likelihood, such as a Bernoulli on grey values.
    """
    if observation not in OBSERVATIONS:
        raise InputError(f"There is no observation {observation!r}; choose {_either()}.")
    drawn = dataset.binarization != "none"
    if observation == "bernoulli":
        if drawn or dataset.is_binary:
            return "binary"
        remedies = ["--data.binarization dynamic", "--model.observation discretized_logistic"]
        grey = dataset.image_shape[0] == 1
        first, second = remedies if grey else reversed(remedies)
        raise InputError(
            f"A bernoulli observation needs binary pixels and {dataset.name} is "
            f"{'grey' if grey else 'in colour'} without binarization; pass {first}, or {second}."
        )
    if dataset.is_binary:
        raise InputError(
            f"The pixels of {dataset.name} are only black or white, for which {observation} is not "
            "a valid likelihood; pass --model.observation bernoulli."
        )
    if drawn:
        raise InputError(
            f"A {observation} observation needs 8-bit levels and the binarization is "
            f"{dataset.binarization}; pass --data.binarization none, or --model.observation "
            "bernoulli."
        )
    return "dequantized" if observation == "gaussian" else "levels"


def natural_observation(dataset: Dataset) -> str:
    """The observation that fits the pixels: `bernoulli` for black and white, otherwise levels."""
    binary = dataset.binarization != "none" or dataset.is_binary
    return "bernoulli" if binary else "discretized_logistic"


def suited(dataset: Dataset, observation: str, binarization: Binarization | None) -> Dataset:
    """The dataset with a config's `binarization`.

    If the config leaves it open (None), your own grey images are drawn dynamically for `bernoulli`.
    """
    if binarization is None:
        grey = dataset.binarization == "none" and dataset.image_shape[0] == 1
        drawn = observation == "bernoulli" and grey and not dataset.is_binary
        binarization = "dynamic" if drawn else dataset.binarization
    return replace(dataset, binarization=binarization)


def frozen(dataset: Dataset, split: Split, observation: str) -> Tensor:
    """A whole split as the model sees it, float32 [N, C, H, W] in [0, 1], the same at every call.

    Its noise depends on `draw_seed` and the name of the split. It comes from a stream that numpy
    promises not to change, so the test set does not depend on the version of torch. For a split
    that is too large for memory, see `Frozen`.
    """
    return Frozen(dataset, split, observation)[:]


class Frozen:
    """`frozen(dataset, split, observation)`, of which only the slices that are taken are computed.

    Slices are cheap in order; going back draws the noise before a slice again.
    """

    def __init__(self, dataset: Dataset, split: Split, observation: str):
        self.levels = dataset.split(split).levels
        self._kind = pixel_kind(dataset, observation)
        self._thresholds = dataset.binarization == "threshold"
        self._noise = _Words(mixed_seed(dataset.draw_seed, split) % 2**32)

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def shape(self) -> torch.Size:
        return self.levels.shape

    def first(self, count: int) -> "Frozen":
        """The first `count` images."""
        part = copy(self)
        part.levels = self.levels[:count]
        return part

    def __getitem__(self, place: slice) -> Tensor:
        """The images in a slice without a step, float32 [n, C, H, W]."""
        start, end, step = place.indices(len(self))
        if step != 1:
            raise ValueError(f"frozen images are taken in order; got a step of {step}")
        levels = self.levels[start : max(start, end)]
        if self._thresholds:
            return threshold(levels)
        if self._kind == "levels":
            return scaled(levels)
        words = self._noise.part(start * self.levels[:1].numel(), levels.numel())
        words = words.view(levels.shape)
        return bernoulli(levels, words) if self._kind == "binary" else dequantized(levels, words)

    def split(self, size: int) -> Iterator[Tensor]:
        """Parts of `size` images; pages of a mapped file are given back after each."""
        for start in range(0, len(self), size):
            yield self[start : start + size]
            forget(self.levels)

    def take(self, places: Sequence[int]) -> Tensor:
        """The images at `places`, float32 [n, C, H, W]."""
        found = {place: self[place : place + 1] for place in sorted(set(places))}
        return torch.cat([found[place] for place in places])


class _Words:
    """Int16 words from numpy's stream of a seed, in which any part can be taken."""

    def __init__(self, seed: int):
        self._seed, self._place = seed, 0
        self._random: np.random.RandomState | None = None

    def part(self, start: int, count: int) -> Tensor:
        """Words `start` to `start + count`."""
        even = start - start % 2  # numpy draws two words at a time
        if self._random is None or even < self._place:
            self._random, self._place = np.random.RandomState(self._seed), 0
        while self._place < even:
            self._draw(min(even - self._place, 2**20))
        return self._draw(start - even + count)[start - even :]

    def _draw(self, count: int) -> Tensor:
        if count == 0:  # numpy would draw
            return torch.empty(0, dtype=torch.int16)
        assert self._random is not None
        self._place += count + count % 2
        raw = np.frombuffer(bytearray(self._random.bytes(2 * count)), dtype="<i2")
        return torch.from_numpy(raw.astype(np.int16, copy=False))


def evenly(images: Images, most: int) -> Images:
    """At most `most` of the images, every second, third and so on; a view without a copy."""
    return images.take(slice(None, None, max(1, -(-len(images) // most))))


def bernoulli(levels: Tensor, words: Tensor) -> Tensor:
    """Float32 like `levels`: 1 with probability level / 255, otherwise 0; overwrites `words`."""
    return below(bounds(levels), words)


def bounds(levels: Tensor) -> Tensor:
    """The int16 numbers 257 level - 32768, with which noise is compared."""
    return levels.to(torch.int16).mul_(257).sub_(32768)


def below(bounds: Tensor, words: Tensor) -> Tensor:
    """Float32: 1 if the noise, its lowest bit cleared, is below `bounds`; overwrites `words`."""
    drawn = torch.empty_like(bounds, dtype=torch.float32)
    return torch.lt(words.bitwise_and_(-2), bounds, out=drawn)


def threshold(levels: Tensor) -> Tensor:
    """Float32 like `levels`: 1 if level >= 128, otherwise 0."""
    return (levels >= 128).float()


def dequantized(levels: Tensor, words: Tensor) -> Tensor:
    """Float32 like `levels`, (level + u) / 256 in [0, 1), from int16 noise `words`."""
    return levels.float().mul_(2**-8).add_(2**-9).add_(words, alpha=2**-24)


def scaled(levels: Tensor) -> Tensor:
    """Float32 like `levels`: level / 255."""
    return levels.float() / 255


def noise_words(shape: torch.Size, seed: int, device: torch.device) -> Tensor:
    """Uniform int16 noise on a device, cut from full-range 64-bit words.

    On CUDA they come from torch's generator there. Elsewhere they come from numpy's SFC64, whose
    stream never changes and which costs half of torch's. It is seeded as by its author:
    a = b = c = seed, counter 1, first 12 words dropped.
    """
    count, wide = shape.numel(), -(-shape.numel() // 4)
    if device.type != "cuda":
        _stream.sfc64.state = {
            "bit_generator": "SFC64",
            "state": {"state": np.array([seed, seed, seed, 1], np.uint64)},
            "has_uint32": 0,
            "uinteger": 0,
        }
        raw = torch.from_numpy(_stream.sfc64.random_raw(12 + wide)[12:].view(np.int16)).to(device)
    else:
        generator = torch.Generator(device).manual_seed(seed)
        raw = torch.empty(wide, dtype=torch.int64, device=device)
        raw = raw.random_(-(2**63), None, generator=generator).view(torch.int16)
    return raw[:count].view(shape)


class _Stream(threading.local):
    """One generator per thread: creating one takes longer than drawing a batch."""

    def __init__(self) -> None:
        self.sfc64 = np.random.SFC64(0)


_stream = _Stream()


def mixed_seed(*parts: int | str) -> int:
    """A 63-bit seed in which every bit depends on every part.

    Torch's CPU generator uses only the lower 32 bits of a seed, so sums and shifts would collide.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _either() -> str:
    return ", ".join(OBSERVATIONS[:-1]) + " or " + OBSERVATIONS[-1]
