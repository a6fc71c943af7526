"""Images to bytes and back, by bits-back coding; the package's page says how."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor

from limner.coding import depth, pixels
from limner.coding.coder import stream
from limner.coding.container import (
    BATCH,
    DAMAGED,
    Header,
    check_about,
    packed,
    stack_of,
    unpacked,
)
from limner.coding.grids import NO_PRIOR, Given, Grid, Taken, fitted
from limner.errors import InputError
from limner.models.base import Inference, LatentVariableModel
from limner.progress import Report

FIRST = 4
"""Images of the first batch: more are faster, and take more initial bits."""


class Coded(NamedTuple):
    """A file, and the bound that its size is compared with."""

    data: bytes
    elbo: Tensor | None
    """[n] nats, of the z that were coded; None if the file is lossy."""


def compress(
    model: LatentVariableModel,
    x: Tensor,
    *,
    keep: int | None = None,
    about: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> bytes:
    """Images as bytes, of which `decompress` makes them again exactly.

    Computed on the CPU in float64, in evaluation mode; the model stays as it is.

    Args:
        x: images [n, C, H, W] as the model sees them: 0 or 1 for `bernoulli`, whole levels / 255
            for others.
        keep: keep only this many latent groups, the first in the order in which the model generates
            them. The file is smaller, and `decompress` gives mean images that resemble `x`.
        about: what to remember of the images, in JSON.
        report: called with the number of images done.

    Raises:
        InputError: images that the model cannot code, or none; no such number of groups; or an
            `about` that is no JSON or takes more than 2 MiB.
    """
    return coded(model, x, keep, about or {}, report).data


@torch.no_grad()
def coded(
    model: LatentVariableModel,
    x: Tensor,
    keep: int | None = None,
    about: Mapping[str, Any] = MappingProxyType({}),
    report: Report | None = None,
) -> Coded:
    """`compress`, and the bound."""
    model.check_images(x)
    if not len(x):
        raise InputError("There are no images to compress; give at least one.")
    if keep is not None and not isinstance(keep, Integral):
        raise InputError(f"keep must be a whole number of latent groups; got {keep}.")
    check_about(about)
    exact = pixels.in_double(model)
    levels = pixels.levels_of(model, x)
    named = {"model": digest(model), "shape": model.image_shape, "about": dict(about)}
    if keep is not None:
        kept, words = depth.encoded(exact, levels, keep, report)
        return Coded(packed(Header(**named, images=len(x), kept=kept), words), None)
    grids = tuple(fitted(q, p) for q, p in pixels.posteriors(exact, levels))
    stack = _encoded(exact, levels, grids, report)
    header = Header(
        **named, images=len(x), batches=stack.batches, grids=grids, initial=stack.initial
    )
    return Coded(packed(header, stack.words), stack.elbo)


@torch.no_grad()
def decompress(model: LatentVariableModel, data: bytes, *, report: Report | None = None) -> Tensor:
    """The images [n, C, H, W] that `compress` made `data` of, with the same model.

    Raises:
        InputError: another model, a damaged file, or arithmetic that rounds differently here.
    """
    header, words = unpacked(data)
    if header.model != digest(model):
        raise InputError("These images were compressed with another model; load that one.")
    _check(header, model)
    exact, dtype = pixels.in_double(model), model._dtype
    if header.kept:
        return depth.decoded(exact, header, words, report).to(dtype)
    try:
        levels = _decoded(exact, header, words, report)
    except KeyError:  # a number that its distribution does not have
        raise InputError(_ELSEWHERE) from None
    return pixels.shown(model, levels)


def digest(model: LatentVariableModel) -> str:
    """Sixteen hexadecimal digits that identify a model: its settings, steps, sizes and weights."""
    settings = model.config.model_dump(mode="json") | {"memory": None}
    settings |= {"num_steps": getattr(model, "num_steps", None)}
    found = hashlib.blake2b(digest_size=8)
    found.update(repr((sorted(settings.items()), model.image_shape)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


_ELSEWHERE = (
    "The images cannot be decoded here: this machine, or its version of torch, rounds differently "
    "from the one that compressed them; decode them on such a machine."
)


class _Stack(NamedTuple):
    words: np.ndarray
    batches: tuple[int, ...]
    """The number of images of each batch."""
    initial: int
    """Random words that it started from."""
    elbo: Tensor
    """[n] nats, of the z that were coded."""


def _encoded(
    model: LatentVariableModel, levels: Tensor, grids: Sequence[Grid], report: Report | None
) -> _Stack:
    """Images on a stack.

    There are always enough random words at its bottom. Batches grow with what earlier images have
    put on it, so that few of these words are touched, and the others are left out of the file.
    """
    most = pixels.together(model)
    bottom = _most_words(most, sum(len(grid.log2_steps) for grid in grids))
    stack = stream.stack.AnsCoder(_random_words(bottom), True)
    lowest, taken, batches, bounds = bottom, 1.0, list[int](), list[Tensor]()
    while (done := sum(batches)) < len(levels):
        before = stack.num_words()
        size = min(most, max(FIRST, int((before - lowest) / taken)), len(levels) - done)
        left, bound = _put(model, pixels.shown(model, levels[done : done + size]), grids, stack)
        lowest, taken = min(lowest, left), max(taken, (before - left) / size)
        batches.append(size)
        bounds.append(bound)
        if report is not None:
            report(done + size, "")
    untouched = max(0, lowest - 4)
    words = stack.get_compressed()[untouched:]
    return _Stack(words, tuple(batches), bottom - untouched, torch.cat(bounds))


def _most_words(images: int, numbers: int) -> int:
    """Words that the z of some images take at most: no number takes 64 bits."""
    return 4 + 2 * images * numbers


def _put(
    model: LatentVariableModel, x: Tensor, grids: Sequence[Grid], stack: Any
) -> tuple[int, Tensor]:
    """Add images to the stack; returns how many words were left without z, and the ELBO."""
    taken = Taken(grids, stack)
    inference = _inferred(model, x, taken)
    left = stack.num_words()
    given = Given(grids, taken.numbers)
    generation = model._generate(len(x), given, trace=False)
    pixels.put(stack, generation.observation, x)
    given.put(stack)
    return left, inference.log_likelihood - inference.kl.sum(1)


def _decoded(
    model: LatentVariableModel, header: Header, words: np.ndarray, report: Report | None
) -> Tensor:
    """Levels of the images, the last first from the stack."""
    grids, end = [Grid(*each) for each in header.grids], header.images
    levels = torch.empty(end, *header.shape, dtype=torch.uint8)
    stack = stack_of(words)
    for size in reversed(header.batches):
        levels[end - size : end] = _take(model, size, grids, stack)
        end -= size
        if report is not None:
            report(header.images - end, "")
    if not _restored(stack, header.initial):
        raise InputError(_ELSEWHERE)
    return levels


def _restored(stack: Any, initial: int) -> bool:
    """Whether the stack holds the random words that it started from."""
    try:
        return np.array_equal(stack.get_compressed(True), _random_words(initial))
    except AssertionError:  # of the library: not a whole number of words
        return False


def _take(model: LatentVariableModel, size: int, grids: Sequence[Grid], stack: Any) -> Tensor:
    """Take images from the stack; returns their levels."""
    taken = Taken(grids, stack)
    generation = model._generate(size, taken, trace=False)
    levels = pixels.take(stack, generation.observation, model.image_shape[0])
    given = Given(grids, taken.numbers)
    _inferred(model, pixels.shown(model, levels), given)
    given.put(stack)
    return levels


def _inferred(model: LatentVariableModel, x: Tensor, draws: Given) -> Inference:
    """Inference on images with z from `draws`."""
    inference = model._infer(x, draws, "closed_form", trace=True)
    if any(prior is None for _, prior in draws.met.values()):
        raise InputError(NO_PRIOR)
    return inference


def _random_words(count: int) -> np.ndarray:
    """Random words; of more, the last are the same."""
    random = np.random.Generator(np.random.Philox(0))
    return random.integers(2**32, size=count, dtype=np.uint32)[::-1].copy()


def _check(header: Header, model: LatentVariableModel) -> None:
    """Refuse a header that Limner did not write for this model, or more images than memory."""
    dims = [math.prod(shape) for shape in model.latent_shapes]
    found = [len(group[0]) for group in header.grids or header.kept]
    complete = found == dims if header.grids else 0 < len(found) <= len(dims)
    batches = sum(header.batches) == header.images if header.grids else not header.batches
    initial = header.initial <= _most_words(BATCH, sum(found))
    if header.shape != model.image_shape or not (complete and batches and initial):
        raise InputError(DAMAGED)
    per_image = 9 * math.prod(header.shape) + 32 * sum(found)
    if per_image * header.images > psutil.virtual_memory().available:
        raise InputError(
            f"The {header.images:,} images do not fit into memory; decompress them on a machine "
            "with more."
        )
