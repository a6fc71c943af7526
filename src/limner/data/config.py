"""What to load: the flags under `--data`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from limner.settings import Settings

Binarization = Literal["dynamic", "static", "threshold", "none"]


class DataConfig(Settings):
    """Which images, where their files are, and how their pixels become binary.

    `binarization`: `dynamic` samples x ~ Bernoulli(level / 255) for every training batch, and
    once for validation and test; `static` samples all three splits once; `threshold` is
    level >= 128; `none` keeps 8-bit levels. If it is None, `load` uses the dataset's default.
    """

    name: str = Field(
        default="mnist-5k",
        min_length=1,
        description="Dataset: a name from `limner data list`, hub:NAME, or a path to a folder of "
        "PNG or JPEG files, an .npz or an .npy.",
    )
    root: Path | None = Field(
        default=None,
        description="Folder of the dataset's files; they are downloaded if it is not given.",
    )
    binarization: Binarization | None = Field(
        default=None, description="How pixels become 0 or 1; the dataset's default if not given."
    )
    draw_seed: int = Field(
        default=0,
        ge=0,
        description="Seed of fixed binarization, and of the split of your own images.",
    )
