"""Random changes of training images: mirrored, shifted, cropped.

Every image gets its own numbers, a hash of (seed, epoch, index of the image): they depend neither
on the batch nor on the device. Pixels are computed in whole numbers, with bilinear weights in steps
of 1/256, so that they are the same on every device too.
"""

import numpy as np
import torch
from torch import Tensor

from limner.data.config import Augmentation
from limner.data.pixels import mixed_seed
from limner.errors import InputError

_GOLDEN = 0x9E3779B97F4A7C15
"""The increment of SplitMix64 (Steele, Lea and Flood 2014)."""
_DRAWS = 6


def check_augmentation(augment: Augmentation, shape: tuple[int, ...], fixed: bool) -> None:
    """`InputError` for changes that images [C, H, W] cannot have; `fixed`: each has fixed bits."""
    if augment.shift >= min(shape[1:]):
        raise InputError(
            f"--data.augment.shift {augment.shift} moves images of {shape[2]} x {shape[1]} out of "
            f"sight; pass at most {min(shape[1:]) - 1}."
        )
    if augment.crop < 1 and fixed:
        raise InputError(
            "--data.augment.crop makes grey levels, which fixed binary pixels cannot have; pass "
            "--data.binarization dynamic, or --data.augment.crop 1."
        )


def augmented(
    pixels: Tensor, index: Tensor, augment: Augmentation, seed: int, epoch: int
) -> Tensor:
    """Uint8 [n, C, H, W] like `pixels`, the training images `index` [n], changed for `epoch`.

    A mirrored image is reversed left-right. A shift of up to `shift` pixels in each direction
    repeats the border. A crop keeps a random box, whose sides have one share in [`crop`, 1] of the
    image's, resampled to the whole size. If only mirrored and shifted, every pixel is a copy.
    """
    flip, up, left, *box = uniform(index, mixed_seed("augment", seed, epoch), _DRAWS)
    height, width = pixels.shape[2:]
    reach = 2 * augment.shift + 1
    rows = _shifted(height, np.floor(up * reach) - augment.shift)
    columns = _shifted(width, np.floor(left * reach) - augment.shift)
    if augment.flip:
        columns = np.where(flip[:, None] < 0.5, width - 1 - columns, columns)
    if augment.crop == 1:
        return _along(_along(pixels, rows, 2), columns, 3)
    share = augment.crop + (1 - augment.crop) * box[0]
    blended = _blended(pixels.int(), rows, share, box[1], 2)
    return ((_blended(blended, columns, share, box[2], 3) + 2**15) >> 16).to(torch.uint8)


def uniform(index: Tensor, seed: int, count: int) -> np.ndarray:
    """Float64 [count, n] in [0, 1): the numbers of each image, by SplitMix64 (53 bits)."""
    place = index.cpu().numpy().astype(np.uint64) * np.uint64(count)
    state = place + np.arange(1, count + 1, dtype=np.uint64)[:, None]
    state = state * np.uint64(_GOLDEN) + np.uint64(seed)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)) * 2.0**-53


def _shifted(size: int, by: np.ndarray) -> np.ndarray:
    """For each image [n] the place that each of `size` pixels comes from, [n, size]."""
    return (np.arange(size) - by[:, None]).clip(0, size - 1).astype(np.int64)


def _along(pixels: Tensor, places: np.ndarray, axis: int) -> Tensor:
    """Pixels [n, C, H, W] at `places` [n, size] of one axis."""
    at = torch.from_numpy(places).to(pixels.device)
    at = at[:, None, :, None] if axis == 2 else at[:, None, None, :]
    return pixels.gather(axis, at.expand(pixels.shape))


def _blended(
    pixels: Tensor, places: np.ndarray, share: np.ndarray, offset: np.ndarray, axis: int
) -> Tensor:
    """256 times the pixels of a part of one axis, linearly interpolated, at `places` of the result.

    The part has a `share` of the axis, and `offset` in [0, 1) of the rest lies before it.
    """
    size = pixels.shape[axis]
    share, start = share[:, None], (offset * (1 - share) * size)[:, None]
    exact = np.rint(256 * (start + share * (places + 0.5) - 0.5)).clip(0, 256 * (size - 1))
    first, weight = np.divmod(exact.astype(np.int64), 256)
    second = torch.from_numpy(weight.astype(np.int32)).to(pixels.device)
    second = second[:, None, :, None] if axis == 2 else second[:, None, None, :]
    low = _along(pixels, first, axis)
    high = _along(pixels, (first + 1).clip(max=size - 1), axis)
    return low * (256 - second) + high * second
