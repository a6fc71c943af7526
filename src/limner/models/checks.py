"""Checks of the inputs of a model: images, latents and the shape of images.

Each raises `InputError` with one sentence that says what to change. Only `check_values` reads
values, and so waits for a GPU. The training loop skips it, because datasets are checked when they
are loaded.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from limner.errors import InputError
from limner.layers.observation import ObservationName

Shape = Sequence[int]
SMALLEST_SIDE = 8
"""If the last number can be channels, a first number of at least this much is a height."""
SLACK = 1e-5
"""Distance that a value may lie outside [0, 1], from rounding when an image is scaled."""


def check_model_dtype(dtype: torch.dtype) -> None:
    """Refuse 16-bit parameters, whose rounding changes bounds by nats."""
    if dtype in (torch.float16, torch.bfloat16):
        raise InputError(
            f"The model is {_name(dtype)} and computes in float32 or float64; call model.float(), "
            "and use torch.autocast for products in 16 bits."
        )


def check_form(x: object, image_shape: Shape, dtype: torch.dtype) -> None:
    """Refuse what is not a tensor [batch, *image_shape] of the model's `dtype`."""
    if not isinstance(x, Tensor):
        advice = "torch.from_numpy" if type(x).__module__ == "numpy" else "torch.as_tensor"
        raise InputError(f"Images must be a tensor, not {_type(x)}; convert them with {advice}.")
    if not x.dtype.is_floating_point:
        scaled = "x.float()" if x.dtype == torch.bool else "x.float() / 255"
        raise InputError(
            f"Images must be floats in [0, 1], not {_name(x.dtype)}; pass {scaled}"
            f"{'' if x.dtype == torch.bool else ' if they are 8-bit levels'}."
        )
    if x.dtype != dtype:
        model = {torch.float64: " or call model.double()", torch.float32: " or call model.float()"}
        raise InputError(
            f"The images are {_name(x.dtype)} and the model is {_name(dtype)}; pass "
            f"x.to({dtype}){model.get(x.dtype, '')}."
        )
    if x.dim() != 1 + len(image_shape) or tuple(x.shape[1:]) != tuple(image_shape):
        expected = ", ".join(map(str, image_shape))
        raise InputError(
            f"Images must have shape [batch, {expected}], not {list(x.shape)}; "
            f"{_reshaping(tuple(x.shape), tuple(image_shape))}."
        )


def check_values(x: Tensor, observation: ObservationName, grey: bool = False) -> None:
    """Refuse values outside [0, 1], NaN, and grey values for a Bernoulli. Reads from the device.

    Args:
        grey: allow grey values for a Bernoulli, for gradients with respect to pixels.
    """
    if x.numel() == 0:
        return
    low, high = torch.aminmax(x.detach())
    binary = observation == "bernoulli" and not grey
    between = ((x != 0) & (x != 1)).any() if binary else torch.zeros_like(low)
    smallest, largest, has_grey = torch.stack([low, high, between.to(low)]).tolist()
    if math.isnan(smallest):
        count = int(x.isnan().sum())
        raise InputError(f"{count} of {x.numel()} values of the images are NaN; remove them.")
    if smallest < -SLACK or largest > 1 + SLACK:
        raise InputError(
            f"Images must have values in [0, 1]; these range from {smallest:g} to {largest:g}, so "
            f"{_rescaling(smallest, largest)}."
        )
    if has_grey:
        value = x[(x != 0) & (x != 1)][0].item()
        raise InputError(
            f"A Bernoulli observation needs pixels of 0 or 1, and one is {value!r}; binarize "
            "with x.round() or torch.bernoulli(x), or train a model with another observation."
        )


def check_latents(
    latents: object,
    shapes: Sequence[Shape],
    rows: int,
    dtype: torch.dtype,
    *,
    names: Sequence[str] = (),
    what: Literal["latents", "noise"] = "latents",
) -> None:
    """Refuse latents or noise that do not match the latent groups of a model.

    None is allowed, and "mean" for latents. Otherwise one entry per group is needed: a tensor
    [rows, *shape], None, or "mean" for latents.

    Args:
        names: names of the groups for the message; numbers from 1 if empty.
    """
    one, alternatives = ("latent", ' or "mean"') if what == "latents" else ("noise", "")
    words = ("mean",) if what == "latents" else ()
    if latents is None or (isinstance(latents, str) and latents in words):
        return
    if isinstance(latents, (str, Tensor)) or not isinstance(latents, Sequence):
        raise InputError(
            f"The {what} must be a list with one tensor per group{alternatives}, not "
            f"{_type(latents)}."
        )
    if len(latents) != len(shapes):
        raise InputError(
            f"The model has {len(shapes)} latent groups and {what} of {len(latents)} were given; "
            "give one entry per group."
        )
    for place, (z, shape) in enumerate(zip(latents, shapes, strict=True)):
        group = names[place] if names else f"group {place + 1}"
        if z is None or (isinstance(z, str) and z in words):
            continue
        if not isinstance(z, Tensor):
            raise InputError(
                f"The {one} of {group} must be a tensor, None{alternatives}, not {_type(z)}."
            )
        if z.dtype != dtype:
            raise InputError(
                f"The {one} of {group} must be {_name(dtype)}, not {_name(z.dtype)}; use "
                f"z.to({dtype})."
            )
        if tuple(z.shape) != (rows, *shape):
            raise InputError(
                f"The {one} of {group} must have shape {[rows, *shape]}, not {list(z.shape)}."
            )


def check_image_shape(image_shape: Shape) -> None:
    """Refuse what is not (channels, height, width), with a hint if the channels come last."""
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise InputError(
            f"image_shape is (channels, height, width), all at least 1; got {tuple(image_shape)}."
        )
    first, second, last = image_shape
    if last in (1, 3) and first not in (1, 3) and min(first, second) >= SMALLEST_SIDE:
        raise InputError(
            f"image_shape is (channels, height, width), channels first; pass "
            f"{(last, first, second)} in place of {tuple(image_shape)}."
        )


def _reshaping(shape: tuple[int, ...], image_shape: tuple[int, ...]) -> str:
    """Advice for a tensor of the wrong `shape`."""
    channels, height, width = image_shape
    if shape == image_shape:
        return "add a batch dimension with x[None]"
    if channels == 1 and len(shape) == 3 and shape[1:] == (height, width):
        return "add the channel with x[:, None]"
    if len(shape) == 4 and shape[1:] == (height, width, channels):
        return "put the channels first with x.permute(0, 3, 1, 2)"
    if len(shape) == 2 and shape[1] == math.prod(image_shape):
        return f"reshape them with x.view(-1, {channels}, {height}, {width})"
    return "use images of the shape that the model was made for"


def _rescaling(smallest: float, largest: float) -> str:
    if smallest >= 0 and 1 < largest <= 255:
        return "divide 8-bit levels by 255"
    if smallest >= -1 and largest <= 1:
        return "rescale [-1, 1] with (x + 1) / 2"
    return "rescale or clip them"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _type(value: object) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"
