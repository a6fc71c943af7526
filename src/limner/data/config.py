"""What to load: the flags under `--data`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from limner.settings import Settings

Binarization = Literal["dynamic", "static", "threshold", "none"]


class DataConfig(Settings):
    """Which images, where they lie and how their pixels become binary.

    `binarization`: `dynamic` redraws x ~ Bernoulli(level / 255) for every training batch and draws
    validation and test once; `static` draws all three splits once; `threshold` is level >= 128;
    `none` leaves 8-bit levels. None takes the dataset's own default, which `load` resolves.
    """

    name: str = Field(
        default="mnist-5k",
        min_length=1,
        description="Dataset: a name from `limner data list`, hub:NAME, or a path to a folder of "
        "PNG or JPEG files, an .npz or an .npy.",
    )
    root: Path | None = Field(
        default=None,
        description="Folder that holds the dataset's files; without it they are downloaded.",
    )
    binarization: Binarization | None = Field(
        default=None, description="How pixels become 0 or 1; the dataset's default if not given."
    )
    draw_seed: int = Field(
        default=0,
        ge=0,
        description="Seed of the draws made once, and of the split of your own images.",
    )
