"""Flags that several commands share, each declared once.

A command takes a dataclass of them as `Annotated[Options, FLAT]`: its fields become flags.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from limner.data import DataConfig, Dataset, names
from limner.data.catalogue import unused
from limner.data.given import given
from limner.models import LatentVariableModel
from limner.progress import warn
from limner.training.runs import Checkpoint, Run, WeightKind
from limner.training.seen import remembered

FLAT = tyro.conf.arg(name="")
"""The flags of a dataclass get no prefix."""
RunName = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(help="a run folder, or the name of a trained model"),
]

Pictures = Annotated[
    tuple[Path, ...],
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="PICTURES",
        help="picture files, or folders of pictures, to use instead of a split, in this order",
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

    def open(self, run: str) -> Run:
        """A run that shows these images if any are given, otherwise its own.

        Your own images are brought to the shape of the model's. Settings of the run's images that
        have no meaning for these are left out.
        """
        found = Run.open(run)
        given = {key: value for key, value in vars(self).items() if value not in (None, False)}
        if self.name not in (None, found.config.data.name, *names()):
            channels, *size = found.image_shape
            given |= {"size": tuple(size), "colour": "grey" if channels == 1 else "rgb"}
        data: DataConfig = found.config.data.with_(**given)
        data = data.with_(**dict.fromkeys(unused(data)))
        return found.on(data) if given else found


@dataclass(frozen=True)
class Weights:
    """Which weights of a run to load."""

    checkpoint: Checkpoint = "best"
    """best by the validation bound, or last"""
    weights: WeightKind = "ema"
    """averaged over training steps (ema), or raw"""

    def load(self, run: Run) -> LatentVariableModel:
        return run.model(self.checkpoint, self.weights)


@dataclass(frozen=True)
class Subject(Weights):
    """Which weights, and which images."""

    data: Images = Images()


def shown_images(run: Run, pictures: tuple[Path, ...] = (), note: bool = True) -> Dataset:
    """The dataset of a run, or the pictures given to a command, as every split.

    With `note`, prints how many of its test images the model was trained on, if any.
    """
    if not pictures:
        dataset = run.dataset()
        _, height, width = run.image_shape
        sizes = dataset.found.sizes if dataset.found else {}
        if run.data.size != run.config.data.size and set(sizes) - {f"{width} x {height}"}:
            warn(f"The images of {dataset.name} are brought to the model's {width} x {height}.")
        if note and (sentence := remembered(run, dataset.test)):
            warn(sentence)
        return dataset
    return given(pictures, run.data, run.image_shape, run.config.model.observation)


SUBJECT, IMAGES, WEIGHTS = Subject(), Images(), Weights()
"""The defaults."""
