"""Training batches, a pure function of (seed, epoch, index)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from limner.data.augmentation import augmented, check_augmentation
from limner.data.config import Augmentation
from limner.data.dataset import Dataset
from limner.data.mapped import forget, is_mapped, prefetch
from limner.data.pixels import (
    Frozen,
    below,
    bounds,
    dequantized,
    mixed_seed,
    noise_words,
    pixel_kind,
    scaled,
)
from limner.errors import InputError

BLOCK = 2**19
"""About how many pixels are drawn at once: fewer cost more calls, more do not fit the caches."""
LARGE = 2**28
"""Bytes of levels of which no copy is made in memory; they are prepared block by block."""
_RESIDENT = 2**29
"""About how many bytes of a mapped file may be in memory before its pages are given back."""
_TOUCHED = 2**17
"""Bytes of the pages that the system maps around one that is read."""
_AT_ONCE = 2**8
"""Images that are made binary at once."""


class TrainingBatches:
    """The training images, shuffled and drawn again every epoch, as float32 batches on a device.

    A batch depends only on the seed, the epoch and its index, so a run resumed in the middle of an
    epoch needs no saved state of the data. Several batches are drawn at once and kept; `batch`
    returns a view of them, which must not be changed. The order of an epoch is the same on every
    device, but the noise on a CUDA device differs from that on a CPU. Levels are copied to the
    device once, at construction, unless they take more than a quarter of its memory; those of a
    mapped file stay there, and only the pages of recent blocks are in memory.

    `images.augment` changes every image anew in every epoch, always in the same way for the same
    seed, epoch and image.

    `batch_size` is at most the number of images, and the incomplete last batch is dropped, so an
    epoch has `steps_per_epoch` = N // batch_size batches. With `static` or `threshold` binarization
    the pixels are those of `frozen(images, "train", observation)` in every epoch.
    """

    def __init__(
        self,
        images: Dataset,
        observation: str,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        block: int = BLOCK,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"A batch has at least 1 image; got batch size {batch_size}.")
        self._kind = pixel_kind(images, observation)
        self._binarization = images.binarization
        self._redraws = self._kind == "dequantized" or images.binarization == "dynamic"
        fixed = self._kind == "binary" and not self._redraws
        self._augment = images.augment
        check_augmentation(images.augment, images.image_shape, fixed)
        self.device = torch.device(device)
        levels = images.train.levels
        if fixed and images.binarization == "static":
            levels = _bits(Frozen(images, "train", observation))
        augments = images.augment != Augmentation()
        self._prepared = levels.numel() <= LARGE and not augments
        pixels = self._prepare(levels) if self._prepared else levels
        self._pixels = pixels if self._streams(pixels) else pixels.to(self.device)
        self._seed = seed
        self._shuffled = (-1, torch.empty(0, dtype=torch.int64))
        self._drawn: tuple[tuple[int, int], Sequence[Tensor]] = ((-1, -1), ())
        self._mapped, self._gathered = is_mapped(self._pixels), 0
        self.batch_size = min(batch_size, len(pixels))
        self.steps_per_epoch = len(pixels) // self.batch_size
        self._batches_at_once = max(1, block // (self.batch_size * pixels[0].numel()))

    def batch(self, epoch: int, index: int) -> Tensor:
        """Batch `index` of `epoch`, both from 0: float32 [batch_size, C, H, W] in [0, 1]."""
        if not 0 <= index < self.steps_per_epoch:
            raise IndexError(f"batch {index} of an epoch of {self.steps_per_epoch}")
        block, place = divmod(index, self._batches_at_once)
        if self._drawn[0] != (epoch, block):
            self._drawn = (epoch, block), self._block(epoch, block).split(self.batch_size)
        return self._drawn[1][place]

    def _block(self, epoch: int, block: int) -> Tensor:
        """All batches of a block, concatenated."""
        size = self.batch_size * self._batches_at_once
        end = self.batch_size * self.steps_per_epoch
        chosen = self._order(epoch)[block * size : min((block + 1) * size, end)]
        pixels = self._rows(chosen, epoch)
        if self._redraws:
            seed = mixed_seed("noise", self._seed, epoch, block)
            words = noise_words(pixels.shape, seed, self.device)
            return (dequantized if self._kind == "dequantized" else below)(pixels, words)
        return pixels.float() if self._kind == "binary" else scaled(pixels)

    def _rows(self, chosen: Tensor, epoch: int) -> Tensor:
        """The images `chosen` on the device, ready to be drawn."""
        if self._mapped:
            prefetch(self._pixels, chosen)
        pixels = self._pixels.index_select(0, chosen)
        self._gathered += len(chosen) * (pixels[0].numel() + _TOUCHED)
        if self._mapped and self._gathered > _RESIDENT:
            forget(self._pixels)
            self._gathered = 0
        if pixels.device.type != self.device.type:
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        if self._prepared:
            return pixels
        if self._augment != Augmentation():
            pixels = augmented(pixels, chosen, self._augment, self._seed, epoch)
        return self._prepare(pixels)

    def _prepare(self, levels: Tensor) -> Tensor:
        """What noise is compared with, or bits, or levels."""
        if self._kind != "binary" or self._binarization == "static":
            return levels
        if self._binarization == "dynamic":
            return bounds(levels)
        return (levels >= 128).to(torch.uint8)

    def _streams(self, pixels: Tensor) -> bool:
        """Whether every block is copied to the device, which has too little memory for all."""
        if self.device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        return pixels.numel() * pixels.element_size() > free / 4

    def _order(self, epoch: int) -> Tensor:
        """The order of the images in `epoch`, kept until another one is asked for."""
        last, order = self._shuffled
        if epoch != last:
            generator = torch.Generator().manual_seed(mixed_seed("order", self._seed, epoch))
            order = torch.randperm(len(self._pixels), generator=generator).to(self._pixels.device)
            self._shuffled = (epoch, order)
        return order


def _bits(images: Frozen) -> Tensor:
    """Uint8 0 or 1 [N, C, H, W]: the pixels of frozen binary images."""
    bits = torch.empty(images.shape, dtype=torch.uint8)
    for start in range(0, len(images), _AT_ONCE):
        bits[start : start + _AT_ONCE] = images[start : start + _AT_ONCE]
    return bits
