"""Flags that several commands share, each declared once.

A command takes a dataclass of them as `Annotated[Options, FLAT]`: its fields become flags.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from limner.data import names
from limner.errors import InputError
from limner.progress import waiting, warn
from limner.training.named import Checkpoint, WeightKind

if TYPE_CHECKING:
    from limner.data import Dataset
    from limner.data import Images as Pixels
    from limner.models import LatentVariableModel
    from limner.training.runs import Run

_LONGEST = 60
"""Letters of a name in the name of a file."""
FLAT = tyro.conf.arg(name="")
"""The flags of a dataclass get no prefix."""
RunName = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="RUN", help="a run folder, the name of a trained model, or hub:owner/name"
    ),
]
RunNames = Annotated[
    tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUNS", help_behavior_hint="")
]

Pictures = Annotated[
    tuple[Path, ...],
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="PICTURES",
        help="picture files, or folders, zips or arrays of pictures, to use instead of a split, in "
        "this order",
    ),
]


@dataclass(frozen=True)
class Images:
    """Images to use instead of those of the run."""

    name: str | None = None
    """other images than the run's own, binarized in the same way"""
    root: Path | None = None
    """folder with the images"""
    skip_damaged: bool = False
    """leave out files that cannot be read as pictures"""

    def open(self, run: str) -> "Run":
        """A run that shows these images if any are given, otherwise its own.

        Your own images are brought to the shape of the model's. Settings of the run's images that
        have no meaning for these are left out.
        """
        from limner.data.catalogue import other_images
        from limner.training.runs import Run

        found = Run.open(run)
        given = {key: value for key, value in vars(self).items() if value not in (None, False)}
        if not given:
            return found
        return found.on(other_images(found.own_data, found.image_shape, **given))


@dataclass(frozen=True)
class Weights:
    """Which weights of a run to load, and where to compute with them."""

    checkpoint: Checkpoint = "best"
    """best by validation -ELBO, or last"""
    weights: WeightKind = "ema"
    """averaged over training steps (ema), or raw"""
    device: str = "auto"
    """where to compute: auto, cpu, cuda, mps or another name of torch, such as cuda:1"""

    def load(self, run: "Run") -> "LatentVariableModel":
        """The model, on the device."""
        from limner.device import pick_device

        device = pick_device(self.device)
        with waiting(f"loading {run.name}"):
            return run.model(self.checkpoint, self.weights).to(device)


@dataclass(frozen=True)
class Subject(Weights):
    """Which weights, and which images."""

    data: Images = Images()


def shown_images(run: "Run", pictures: tuple[Path, ...] = (), note: bool = True) -> "Dataset":
    """The dataset of a run, or the pictures given to a command, as every split.

    With `note`, prints how many of its test images the model was trained on, if any.
    """
    from limner.data.given import given
    from limner.training.seen import remembered

    if not pictures:
        with waiting(f"loading {run.data.name}"):
            dataset = run.dataset()
        _, height, width = run.image_shape
        sizes = dataset.found.sizes if dataset.found else {}
        if run.data.size != run.config.data.size and set(sizes) - {f"{width} x {height}"}:
            warn(f"The images of {dataset.name} are brought to the model's {width} x {height}.")
        if note and (sentence := remembered(run, dataset.test)):
            warn(sentence)
        return dataset
    return given(pictures, run.data, run.image_shape, run.config.model.observation)


def check_split(pictures: tuple[Path, ...], split: str) -> None:
    """Refuse a split of pictures that are given: all of them are used."""
    if pictures and split != "test":
        raise InputError(f"--split {split} has no meaning for given pictures; leave it out.")


def shown_name(run: "Run", dataset: "Dataset", pictures: tuple[Path, ...], split: str) -> str:
    """What is shown, for the name of a file: of one picture its name, of several a key."""
    if pictures:
        names = dataset.test.names or ()
        one = in_file_name(Path(names[0]).stem) if len(names) == 1 else ""
        return f"pictures-{one or key_of(dataset.test)}"
    return f"{in_file_name(dataset.name)}-{split}" if shows_others(run) else split


def shows_others(run: "Run") -> bool:
    """Whether a run shows other images than its own."""
    other = run.data.name != run.config.data.name or run.data.name not in names()
    return run.data != run.own_data and other


def in_file_name(name: str) -> str:
    """The end of a name, of letters, digits and - only."""
    return re.sub(r"\W+", "-", name)[-_LONGEST:].strip("-")


def key_of(images: "Pixels") -> str:
    """Eight letters that depend on names and pixels."""
    import numpy as np

    digest = hashlib.sha256(repr(images.names).encode())
    digest.update(np.ascontiguousarray(images.levels.numpy()).data)
    return digest.hexdigest()[:8]


SUBJECT, IMAGES, WEIGHTS = Subject(), Images(), Weights()
"""The defaults."""
