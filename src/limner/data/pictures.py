"""PNG and JPEG pictures as 8-bit levels."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from limner.data.dataset import check_size
from limner.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 2**24
"""Limit for one picture."""


def read_picture(path: Path) -> np.ndarray:
    """Levels of a PNG or JPEG file: [H, W] if it is grey, otherwise [H, W, 3]."""
    from PIL import Image

    if not path.is_file():
        raise InputError(f"{path} is not a file; remove it.")
    with (
        refusing(str(path)),
        path.open("rb") as file,
        Image.open(file, formats=("PNG", "JPEG")) as image,
    ):
        return levels_of_picture(image)


@contextmanager
def refusing(where: str) -> Iterator[None]:
    """Turns any error from a damaged or huge picture into an `InputError`.

    Pillow and its decoders raise many kinds of exception.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(
            f"{where} is too large; the limit is {MAX_PIXELS:,} pixels per picture."
        ) from None
    except Exception as error:
        what = "it is neither" if isinstance(error, Image.UnidentifiedImageError) else f"{error}"
        raise InputError(
            f"{where} cannot be read as PNG or JPEG ({what}); remove or replace it."
        ) from None


def levels_of_picture(image: "Image") -> np.ndarray:
    """Levels [H, W] of a grey picture, or [H, W, 3] of a colour picture.

    A palette of greys counts as grey, 16 bits are rounded to 8, transparent parts become white.
    """
    from PIL import Image

    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    if image.mode.startswith("I"):
        return np.rint(np.asarray(image) / 257).astype(np.uint8)
    grey = _is_grey(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return np.asarray(image.convert("L" if grey else "RGB"))


def stack(pictures: Iterable[tuple[str, np.ndarray]], where: str) -> Tensor:
    """Uint8 [N, C, H, W] of named pictures of one size; if any is in colour, all become RGB."""
    arrays: list[np.ndarray] = []
    first = ""
    for name, picture in pictures:
        first = first or name
        if arrays and picture.shape[:2] != arrays[0].shape[:2]:
            raise InputError(
                f"The images of {where} differ in size: {first} is {_size(arrays[0])} and {name} "
                f"is {_size(picture)} (width x height); use one size."
            )
        arrays.append(picture)
        check_size(len(arrays), arrays[0].size, where)
    if any(picture.ndim == 3 for picture in arrays):
        arrays = [_rgb(picture) for picture in arrays]
        return torch.from_numpy(np.stack(arrays).transpose(0, 3, 1, 2).copy())
    return torch.from_numpy(np.stack(arrays)[:, None])


def _is_grey(image: "Image") -> bool:
    if image.mode == "P":
        palette = np.asarray(image.getpalette("RGB") or []).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La")


def _rgb(picture: np.ndarray) -> np.ndarray:
    return picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"
