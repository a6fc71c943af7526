"""Images to bytes and back, by bits-back coding; the package's page says how."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from constriction import stream
from torch import Tensor

from limner.coding import pixels
from limner.coding.container import Header, packed, unpacked
from limner.coding.grids import Given, Grid, Taken, fitted
from limner.errors import InputError
from limner.models.base import LatentVariableModel

BATCH = 64
"""Images that are coded together. Decoding must use the same number, for the same rounding."""
FITTED = 256
"""Images that grids are fitted to."""
WORD = 32


class Sizes(NamedTuple):
    """What the bits of a file are."""

    images: int
    bits: int
    """Of the stack, without the initial bits."""
    initial: int
    """Random bits that the stack started from."""
    other: int
    """Header and checksum."""


def sizes(data: bytes) -> Sizes:
    """The bits of a file.

    Raises:
        InputError: it is not a sound file.
    """
    header, words = unpacked(data)
    stack, initial = WORD * len(words), WORD * header.initial
    return Sizes(header.shape[0], stack - initial, initial, 8 * len(data) - stack)


@torch.no_grad()
def compress(
    model: LatentVariableModel, x: Tensor, *, about: dict[str, Any] | None = None
) -> bytes:
    """Images [n, C, H, W] as bytes, from which `decompress` makes them again exactly.

    Args:
        model: in evaluation mode, on the CPU.
        x: as the model sees them: 0 or 1 for `bernoulli`, otherwise level / 255.
        about: what to remember of the images, in JSON.

    Raises:
        InputError: images that the model cannot code, or a model in training mode or on a GPU.
    """
    _check_model(model)
    model.check_images(x)
    if not len(x):
        raise InputError("There are no images to compress; give at least one.")
    with _fixed(torch.get_num_threads()):
        first = model.infer(x[:FITTED], torch.Generator().manual_seed(0), trace=True)
        grids = [fitted(latent.q, latent.p) for latent in first.latents or ()]
        start = _initial_words(model, x[:BATCH], grids)
        stack = stream.stack.AnsCoder(start, True)
        for batch in x.split(BATCH):
            _put(model, batch, grids, stack)
    header = Header(
        model=digest(model),
        shape=tuple(x.shape),
        batch=BATCH,
        grids=tuple(grids),
        initial=len(start),
        threads=torch.get_num_threads(),
        about=about or {},
    )
    return packed(header, stack.get_compressed())


@torch.no_grad()
def decompress(model: LatentVariableModel, data: bytes) -> Tensor:
    """The images [n, C, H, W] that `compress` made `data` of, with the same model.

    Raises:
        InputError: another model, a damaged file, or arithmetic that rounds differently here.
    """
    _check_model(model)
    header, words = unpacked(data)
    if header.model != digest(model):
        raise InputError("These images were compressed with another model; load that one.")
    grids = [Grid(*each) for each in header.grids]
    count, *shape = header.shape
    like = torch.empty(count, *shape, dtype=model._dtype)
    stack = stream.stack.AnsCoder(words)
    with _fixed(header.threads):
        found = [_take(model, batch, grids, stack) for batch in like.split(header.batch)[::-1]]
    left = stack.get_compressed(True)
    if not np.array_equal(left, _random_words(header.initial)):
        raise InputError(
            "The images cannot be decoded here: this machine, or its version of torch, rounds "
            "differently from the one that compressed them; decode them on such a machine."
        )
    return torch.cat(found[::-1])


def digest(model: LatentVariableModel) -> str:
    """Sixteen hexadecimal digits that identify config, image shape and weights."""
    found = hashlib.blake2b(model.config.model_dump_json().encode(), digest_size=8)
    found.update(str((model.image_shape, getattr(model, "num_steps", None))).encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def _put(model: LatentVariableModel, x: Tensor, grids: Sequence[Grid], stack: Any) -> None:
    """Add a batch of images to the stack."""
    taken = Taken(grids, stack)
    model._infer(x, taken, "closed_form", trace=True)
    given = Given(grids, taken.numbers)
    generation = model._generate(len(x), given, trace=False)
    pixels.put(stack, generation.observation, x)
    given.put(stack)


def _take(model: LatentVariableModel, like: Tensor, grids: Sequence[Grid], stack: Any) -> Tensor:
    """Take a batch of images from the stack."""
    taken = Taken(grids, stack)
    generation = model._generate(len(like), taken, trace=False)
    x = pixels.take(stack, generation.observation, like)
    given = Given(grids, taken.numbers)
    model._infer(x, given, "closed_form", trace=True)
    given.put(stack)
    return x


def _initial_words(model: LatentVariableModel, x: Tensor, grids: Sequence[Grid]) -> np.ndarray:
    """As many random words as the first batch takes z from."""
    numbers = len(x) * sum(math.prod(shape) for shape in model.latent_shapes)
    most = 2 + numbers  # 24 bits of precision at most
    trial = stream.stack.AnsCoder(_random_words(most), True)
    model._infer(x, Taken(grids, trial), "closed_form", trace=True)
    return _random_words(most - trial.num_words() + 2)


def _random_words(count: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(0)).integers(2**32, size=count, dtype=np.uint32)


def _check_model(model: LatentVariableModel) -> None:
    if model.training:
        raise InputError("A model in training mode cannot code images; call model.eval().")
    if any(parameter.device.type != "cpu" for parameter in model.parameters()):
        raise InputError("Images are coded on the CPU; call model.cpu().")
    if model.config.observation == "gaussian":
        raise InputError(
            "A Gaussian is a density of dequantized images and gives their levels no masses; "
            "train a model with --model.observation discretized_logistic."
        )


@contextmanager
def _fixed(threads: int) -> Iterator[None]:
    """A context in which torch computes with this number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
