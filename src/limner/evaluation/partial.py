"""The values of an unfinished evaluation, saved so that it can be continued."""

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.data import Frozen
from limner.errors import InputError
from limner.models import LatentVariableModel
from limner.storage import load_tensors, save_tensors

SAVE_EVERY = 10.0
"""Seconds between two saves during an evaluation."""
IMAGES = 250
"""Images that are hashed at once."""


def hash_of(x: Tensor | Frozen) -> str:
    """A hash of images."""
    digest = hashlib.sha256(repr(tuple(x.shape)).encode())
    for part in x.split(IMAGES):
        digest.update(_bytes_of(part))
    return digest.hexdigest()


def fingerprint(model: LatentVariableModel, images: str, settings: Mapping[str, Any]) -> str:
    """A hash of everything that affects an evaluation: model, device, images and settings.

    `images` is the `hash_of` the images.
    """
    about = {
        "images": images,
        "settings": dict(settings),
        "model": model.config.model_dump(mode="json"),
        "groups": model.group_names,
        "device": next(model.parameters()).device.type,
        "torch": torch.__version__,
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for tensor in model.state_dict().values():
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


class Partial:
    """Values by name, in a file named by the fingerprint; without a folder nothing is saved."""

    def __init__(self, folder: Path | None, key: str):
        self.path = None if folder is None else folder / f"partial-{key[:16]}.safetensors"
        self.saved = time.monotonic()

    def load(self) -> tuple[dict[str, Tensor], float]:
        """Values so far and the seconds they took; empty if the file is missing or damaged."""
        if self.path is None or not self.path.is_file():
            return {}, 0.0
        try:
            values, document = load_tensors(self.path)
            return values, float(document["seconds"])
        except (InputError, KeyError, TypeError, ValueError):
            return {}, 0.0

    def save(self, values: dict[str, Tensor], seconds: float) -> None:
        """Write the values, completely or not at all."""
        if self.path is not None and values:
            save_tensors(self.path, values, {"seconds": seconds})
            self.saved = time.monotonic()

    def save_if_due(self, values: dict[str, Tensor], seconds: float) -> None:
        """Write the values if they were last written more than `SAVE_EVERY` seconds ago."""
        if time.monotonic() - self.saved > SAVE_EVERY:
            self.save(values, seconds)

    def remove(self) -> None:
        """Delete the file, because the evaluation is finished."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
