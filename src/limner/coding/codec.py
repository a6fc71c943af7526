"""Images to bytes and back, by bits-back coding; the package's page says how."""

import hashlib
import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import psutil
import torch
from constriction import stream
from torch import Tensor

from limner.coding import depth, pixels
from limner.coding.container import BATCH, DAMAGED, Header, packed, unpacked
from limner.coding.grids import Given, Grid, Taken, fitted
from limner.errors import InputError
from limner.models.base import LatentVariableModel

FITTED = 256
"""Images that grids are fitted to."""
SPREAD = 2**22
"""Masses that are in memory together."""
Report = Callable[[int, str], None]


@torch.no_grad()
def compress(
    model: LatentVariableModel,
    x: Tensor,
    *,
    keep: int | None = None,
    about: dict[str, Any] | None = None,
    report: Report | None = None,
) -> bytes:
    """Images as bytes, of which `decompress` makes them again exactly.

    Computed on the CPU in float64, in evaluation mode; the model stays as it is.

    Args:
        x: images [n, C, H, W] as the model sees them: 0 or 1 for `bernoulli`, otherwise level / 255.
        keep: keep only the first latent groups, this many in the order in which the model generates
            them; `decompress` then gives images that resemble `x`, see `coding.depth`.
        about: what to remember of the images, in JSON.
        report: called with the number of images done.

    Raises:
        InputError: images that the model cannot code, or none; or no such number of groups.
    """
    model.check_images(x)
    if not len(x):
        raise InputError("There are no images to compress; give at least one.")
    exact, top = _exact(model), pixels.top_level(model)
    x = (x.cpu().double() * top).round() / top
    most = _together(model)
    named = {"model": digest(model), "shape": model.image_shape, "about": about or {}}
    if keep is not None:
        kept, words = depth.encoded(exact, x, keep, most, report)
        batches = tuple(len(part) for part in x.split(most))
        return packed(Header(**named, batches=batches, kept=kept), words)
    first = exact.infer(x[:FITTED], torch.Generator().manual_seed(0), trace=True)
    grids = tuple(fitted(latent.q, latent.p) for latent in first.latents or ())
    batches, words, initial = _encoded(exact, x, grids, most, report)
    return packed(Header(**named, batches=batches, grids=grids, initial=initial), words)


@torch.no_grad()
def decompress(
    model: LatentVariableModel, data: bytes, *, report: Report | None = None
) -> Tensor:
    """The images [n, C, H, W] that `compress` made `data` of, with the same model.

    Raises:
        InputError: another model, a damaged file, or arithmetic that rounds differently here.
    """
    header, words = unpacked(data)
    if header.model != digest(model):
        raise InputError("These images were compressed with another model; load that one.")
    _check(header, model)
    exact, dtype = _exact(model), model._dtype
    try:
        if header.kept:
            x = depth.decoded(exact, header, words, report)
            return x.to(dtype)
        levels = _decoded(exact, header, words, report)
    except KeyError:  # a number outside of its distribution
        raise InputError(_ELSEWHERE) from None
    return levels.to(dtype) / pixels.top_level(model)


def digest(model: LatentVariableModel) -> str:
    """Sixteen hexadecimal digits that identify a model: its kind, sizes and weights."""
    steps, config = getattr(model, "num_steps", None), model.config
    found = hashlib.blake2b(digest_size=8)
    found.update(repr((config.kind, config.observation, model.image_shape, steps)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


_ELSEWHERE = (
    "The images cannot be decoded here: this machine, or its version of torch, rounds differently "
    "from the one that compressed them; decode them on such a machine."
)


def _encoded(
    model: LatentVariableModel,
    x: Tensor,
    grids: Sequence[Grid],
    most: int,
    report: Report | None,
) -> tuple[tuple[int, ...], np.ndarray, int]:
    """The sizes of batches, the words of the stack, and how many random words it started from.

    There are always enough random words. Batches grow with what earlier images have put on them, so
    that few are touched; the others are left out of the file.
    """
    per_image = 2 * sum(len(grid.log2_steps) for grid in grids)  # words: a number takes 24 bits for
    # j and a few for u at most
    bottom = 4 + most * per_image
    stack = stream.stack.AnsCoder(_random_words(bottom), True)
    lowest, taken, batches = stack.num_words(), 1.0, list[int]()
    while (done := sum(batches)) < len(x):
        before = stack.num_words()
        size = max(1, min(most, int((before - lowest) / taken), len(x) - done))
        left = _put(model, x[done : done + size], grids, stack)
        lowest, taken = min(lowest, left), max(taken, (before - left) / size)
        batches.append(size)
        if report is not None:
            report(done + size, "")
    untouched = max(0, lowest - 4)
    return tuple(batches), stack.get_compressed()[untouched:], bottom - untouched


def _put(model: LatentVariableModel, x: Tensor, grids: Sequence[Grid], stack: Any) -> int:
    """Add images to the stack; returns how many words were left when z had been taken."""
    taken = Taken(grids, stack)
    model._infer(x, taken, "closed_form", trace=True)
    left = stack.num_words()
    given = Given(grids, taken.numbers)
    generation = model._generate(len(x), given, trace=False)
    pixels.put(stack, generation.observation, x)
    given.put(stack)
    return left


def _decoded(
    model: LatentVariableModel, header: Header, words: np.ndarray, report: Report | None
) -> Tensor:
    """Levels of the images, the last first from the stack."""
    grids, end = [Grid(*each) for each in header.grids], header.images
    levels = torch.empty(end, *header.shape, dtype=torch.uint8)
    stack = _stack(words)
    for size in reversed(header.batches):
        x = _take(model, torch.empty(size, *header.shape, dtype=torch.float64), grids, stack)
        levels[end - size : end] = (x * pixels.top_level(model)).round()
        end -= size
        if report is not None:
            report(header.images - end, "")
    if not np.array_equal(stack.get_compressed(True), _random_words(header.initial)):
        raise InputError(_ELSEWHERE)
    return levels


def _take(model: LatentVariableModel, like: Tensor, grids: Sequence[Grid], stack: Any) -> Tensor:
    """Take images from the stack."""
    taken = Taken(grids, stack)
    generation = model._generate(len(like), taken, trace=False)
    x = pixels.take(stack, generation.observation, like)
    given = Given(grids, taken.numbers)
    model._infer(x, given, "closed_form", trace=True)
    given.put(stack)
    return x


def _stack(words: np.ndarray) -> Any:
    try:
        return stream.stack.AnsCoder(words)
    except ValueError:
        raise InputError(DAMAGED) from None


def _random_words(count: int) -> np.ndarray:
    """Random words; of more, the last are the same."""
    random = np.random.Generator(np.random.Philox(0))
    return random.integers(2**32, size=count, dtype=np.uint32)[::-1].copy()


def _together(model: LatentVariableModel) -> int:
    """Images whose tables of masses fit in memory."""
    _, height, width = model.image_shape
    return max(1, min(BATCH, SPREAD // (height * width * (pixels.top_level(model) + 1))))


def _exact(model: LatentVariableModel) -> LatentVariableModel:
    """A copy in float64 on the CPU, in evaluation mode."""
    if model.config.observation == "gaussian":
        raise InputError(
            "A Gaussian is a density of dequantized images and gives their levels no masses; "
            "train a model with --model.observation discretized_logistic."
        )
    return deepcopy(model).cpu().double().eval()


def _check(header: Header, model: LatentVariableModel) -> None:
    """Refuse a header that Limner did not write for this model, or more images than memory."""
    dims = [math.prod(shape) for shape in model.latent_shapes]
    found = [len(group[0]) for group in header.grids or header.kept]
    counts = found == dims if header.grids else 0 < len(found) <= len(dims)
    if header.shape != model.image_shape or not counts:
        raise InputError(DAMAGED)
    if 9 * header.images * math.prod(header.shape) > psutil.virtual_memory().available:
        raise InputError(
            f"The {header.images:,} images do not fit into memory; decompress them on a machine "
            "with more."
        )
