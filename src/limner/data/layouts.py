"""Which axes of an array are images, rows, columns and channels."""

import math
from typing import NamedTuple

import numpy as np

from limner.errors import InputError

CHANNELS = range(1, 5)
"""Grey, grey and alpha, RGB, RGB and alpha."""
_STATED = "--data.shape HEIGHT WIDTH CHANNELS"


class Layout(NamedTuple):
    """How an array is read as `number` images [H, W, C].

    `rows`: the first axis counts images or equal groups of images, so the array can be read in
    blocks; otherwise `order` says whether the array is `one` image or has its images `last`.
    """

    number: int
    image: tuple[int, int, int]
    order: str = "rows"
    channels_first: bool = False

    def images(self, array: np.ndarray) -> np.ndarray:
        """The images [n, H, W, C] of a block of rows, or of the whole array."""
        if self.order == "last":
            array = np.moveaxis(array, -1, 0)
        height, width, channels = self.image
        if self.channels_first:
            return array.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        return array.reshape(-1, height, width, channels)


def layout_of(shape: tuple[int, ...], wanted: tuple[int, ...] | None, where: str) -> Layout:
    """The layout of an array of `shape`; `wanted` is the shape of one image, if it is known.

    Without it, an array is [N, H, W], [N, H, W, C] or [N, C, H, W]; `InputError` if that is
    implausible, as for one colour image.
    """
    if 0 in shape or len(shape) < 2:
        raise InputError(
            f"{where} has shape {shape}, which is no set of images; give them as [N, H, W], "
            "[N, H, W, C] or [N, C, H, W]."
        )
    if wanted is not None:
        return _requested(shape, wanted, where)
    if len(shape) == 2:
        raise _flat(shape, where)
    if len(shape) == 3:
        return _three_axes(shape, where)
    if len(shape) == 4:
        return _four_axes(shape, where)
    raise InputError(f"{where} has shape {shape}; pass the shape of one image with {_STATED}.")


def _three_axes(shape: tuple[int, ...], where: str) -> Layout:
    first, height, width = shape
    if width in CHANNELS and height > 1.5 * width:
        raise _ambiguous(shape, f"one image with {width} channels", shape, where)
    square = 8 <= first == height < width
    if square or _slimness(height, width) > max(2, 2 * _slimness(first, height)):
        raise _ambiguous(shape, f"{width} images of {first} x {height}", shape[:2], where)
    return Layout(first, (height, width, 1))


def _four_axes(shape: tuple[int, ...], where: str) -> Layout:
    count, second, third, fourth = shape
    last = Layout(count, (second, third, fourth))
    first = Layout(count, (third, fourth, second), channels_first=True)
    choices = [layout for layout in (last, first) if layout.image[2] in CHANNELS]
    if not choices:
        hint = ""
        if shape[2] in CHANNELS:
            hint = f", such as --data.shape {_spaced(shape[:3])}"
        raise InputError(
            f"{where} has shape {shape}; give images as [N, H, W], [N, H, W, C] or [N, C, H, W] "
            f"with 1 to 4 channels, or pass the shape of one image with {_STATED}{hint}."
        )
    slim = [_slimness(*layout.image[:2]) for layout in choices]
    if len(choices) == 2 and slim[0] == slim[1] != 1:
        one, other = (_spaced(layout.image) for layout in choices)
        raise InputError(
            f"{where} has shape {shape}, whose channels may be first or last; pass "
            f"--data.shape {one}, or --data.shape {other}."
        )
    return choices[slim.index(min(slim))]


def _requested(shape: tuple[int, ...], wanted: tuple[int, ...], where: str) -> Layout:
    """The layout of `shape` with images [H, W], [H, W, C] or [C, H, W]."""
    forms = _forms(wanted)
    for form, image, first in forms:
        if len(shape) > len(form) and shape[-len(form) :] == form:
            return Layout(math.prod(shape[: -len(form)]), image, "rows", first)
    for form, image, first in forms:
        if shape == form:
            return Layout(1, image, "one", first)
    for form, image, first in forms:
        if shape[:-1] == form:
            return Layout(shape[-1], image, "last", first)
    pixels = math.prod(wanted)
    _, image, first = forms[0] if forms else ((), (1, 1, 1), False)
    if forms and shape[-1] == pixels:
        return Layout(math.prod(shape[:-1]), image, "rows", first)
    if forms and shape == (pixels, shape[-1]):
        return Layout(shape[-1], image, "last", first)
    hint = ""
    if len(wanted) == 2 and shape[-1] == 3 * pixels:
        hint = (
            f"; pass --data.shape {_spaced(wanted)} 3, or 3 {_spaced(wanted)} if channels are first"
        )
    elif len(shape) == 2 and not hint:
        hint = f"; {shape[-1]} values an image need other numbers"
    raise InputError(
        f"{where} has shape {shape}, which has no images of --data.shape {_spaced(wanted)}"
        f"{hint or '; correct it'}."
    )


def _forms(wanted: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, int, int], bool]]:
    """Shapes that one image may have in an array, each with [H, W, C] and if channels are first."""
    if len(wanted) == 2:
        height, width = wanted
        images = [(height, width, channels) for channels in CHANNELS]
        forms = [(wanted, images[0], False)]
    else:
        a, b, c = wanted
        images = [(a, b, c)] * (c in CHANNELS) + [(b, c, a)] * (a in CHANNELS)
        forms = [(wanted, (b, c, a), True)] if c not in CHANNELS and a in CHANNELS else []
    for h, w, c in images:
        forms += [((h, w, c), (h, w, c), False), ((c, h, w), (h, w, c), True)]
    return forms


def squares(values: int) -> list[tuple[int, ...]]:
    """Shapes of square images with so many values, grey or RGB."""
    side = math.isqrt(values)
    if side * side == values:
        return [(side, side)]
    side = math.isqrt(values // 3)
    return [(side, side, 3), (3, side, side)] if 3 * side * side == values else []


def _flat(shape: tuple[int, ...], where: str) -> InputError:
    guesses = [f"--data.shape {_spaced(guess)}" for guess in squares(shape[1])]
    such = f", such as {' or '.join(guesses)}" if guesses else ""
    return InputError(
        f"{where} has shape {shape}: {shape[0]} flat images or one image; pass the shape of one "
        f"image with --data.shape{such}, or --data.shape {_spaced(shape)} for one image."
    )


def _ambiguous(shape: tuple[int, ...], other: str, form: tuple[int, ...], where: str) -> InputError:
    return InputError(
        f"{where} has shape {shape}, which is {other} or {shape[0]} images of {shape[1]} x "
        f"{shape[2]}; pass --data.shape {_spaced(form)}, or --data.shape {_spaced(shape[1:])}."
    )


def _slimness(height: int, width: int) -> float:
    return max(height, width) / min(height, width)


def _spaced(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers))
