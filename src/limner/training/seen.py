"""The training images of a run, remembered by a hash of the pixels of each."""

from collections.abc import Iterator

import numpy as np
import torch

from limner.data import Images
from limner.data.mapped import forget
from limner.data.splits import row_digests
from limner.errors import InputError
from limner.storage import load_tensors, save_tensors
from limner.training.runs import Run
from limner.training.start import ancestry

NAME = "training_images.safetensors"
IMAGES = 4096
"""Images that are hashed at once."""


def remember(run: Run, images: Images) -> None:
    """Write the hashes of the training images of a new run."""
    hashes = torch.from_numpy(_hashes(images).view(np.int64).copy())
    save_tensors(run.path / NAME, {"digests": hashes}, {"dataset": run.config.data.name})


def check_same(run: Run, images: Images) -> None:
    """Raise `InputError` if `images` are not the training images of a run, in their order."""
    known = _known(run)
    if known is None:
        return
    hashes = _hashes(images)
    if not np.array_equal(known, hashes):
        new, gone = (~np.isin(hashes, known)).sum(), (~np.isin(known, hashes)).sum()
        how = f"{new:,} of {len(hashes):,} are new, {gone:,} of {len(known):,} are gone"
        raise InputError(
            f"The training images of {run.config.data.name} are not those that {run.path} was "
            f"trained on: {how if new or gone else 'their order is another one'}; restore them, or "
            "train anew with another --out."
        )


def remembered(run: Run, images: Images) -> str | None:
    """A note for numbers on `images` of which some are, to the pixel, training images of the run.

    The images of runs that it started from count as well.
    """
    known = [hashes for one in ancestry(run) if (hashes := _known(one)) is not None]
    if not known:
        return None
    count = int(np.isin(_hashes(images), np.concatenate(known)).sum())
    if not count:
        return None
    return (
        f"{count:,} of {len(images):,} evaluated images are training images of this run, pixel by "
        "pixel: the results show how well it remembers these, not how well it generalizes; "
        "evaluate it on other images."
    )


def _known(run: Run) -> np.ndarray | None:
    path = run.path / NAME
    if not path.is_file():
        return None
    hashes = load_tensors(path)[0].get("digests")
    if hashes is None or hashes.dtype != torch.int64 or hashes.dim() != 1:
        raise InputError(f"{path} is damaged; restore it, or remove it.")
    return hashes.numpy().view(np.uint64)


def _hashes(images: Images) -> np.ndarray:
    """Uint64 [N]."""
    if images.digests is not None:
        return images.digests
    return np.concatenate([np.empty(0, np.uint64), *_hashed(images)])


def _hashed(images: Images) -> Iterator[np.ndarray]:
    for part in images.levels.split(IMAGES):
        yield row_digests(part.numpy())
        forget(images.levels)
