"""What to load: the flags under `--data`."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator

from limner.settings import Settings

Split = Literal["train", "validation", "test"]
Binarization = Literal["dynamic", "static", "threshold", "none"]
Fit = Literal["crop", "pad", "stretch"]
Colour = Literal["auto", "grey", "rgb"]
Side = Annotated[int, Field(gt=0, le=2**14)]


def in_words(binarization: str) -> str:
    """How images became binary, for a title."""
    return "without binarization" if binarization == "none" else f"{binarization} binarization"


class Augmentation(Settings):
    """Random changes of training images, drawn anew for every image and epoch; none by default."""

    prefix: ClassVar[str] = "data.augment."
    flip: bool = Field(default=False, description="mirror half of the training images left-right")
    shift: int = Field(
        default=0, ge=0, le=2**10, description="largest shift of a training image, in pixels"
    )
    crop: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="smallest part of each side that a random crop of a training image keeps",
    )


class DataConfig(Settings):
    """Which images, where their files are, and how their pixels become binary."""

    prefix: ClassVar[str] = "data."
    name: str = Field(
        default="mnist-5k",
        min_length=1,
        description="Dataset: a name from `limner data list`, hub:NAME, or a path to a folder or "
        "zip of pictures, or to arrays in .npz, .npy, .pt or .csv.",
    )
    root: Path | None = Field(
        default=None,
        description="Folder of the dataset's files; they are downloaded if it is not given.",
    )
    binarization: Binarization | None = Field(
        default=None,
        description="How pixels become 0 or 1. dynamic: x ~ Bernoulli(level / 255), anew for every "
        "training batch, once for validation and test; static: once; threshold: level >= 128; "
        "none: they stay 8-bit levels. That of the dataset if not given.",
    )
    draw_seed: int = Field(
        default=0,
        ge=0,
        description="Seed of fixed binarization, and of the split of your own images.",
    )
    test_from: Literal["train"] | None = Field(
        default=None,
        description="train: cifar10 without its test file; training batch 5 is the test set, and "
        "every result says so.",
    )
    size: Side | tuple[Side, Side] | None = Field(
        default=None,
        description="Side of the images, or height and width; that of the files if not given.",
    )
    fit: Fit = Field(
        default="crop",
        description="How images of other proportions get the size: crop the middle, pad with "
        "black, or stretch.",
    )
    colour: Colour = Field(
        default="auto", description="Grey or RGB images; auto: grey if all images are grey."
    )
    range: tuple[float, float] | None = Field(
        default=None,
        description="The values in the files that mean black and white, such as 0 4095 or -1 1.",
    )
    shape: tuple[PositiveInt, ...] | None = Field(
        default=None,
        description="Shape of one image in an array of flat images: height, width and channels.",
    )
    skip_damaged: bool = Field(
        default=False, description="Leave out files that cannot be read as pictures."
    )
    group_by: str | None = Field(
        default=None,
        min_length=1,
        description="Regular expression on file names: images with the same match (of its groups, "
        "if it has any) stay in one split.",
    )
    augment: Augmentation = Augmentation()

    @field_validator("range")
    @classmethod
    def _rises(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends is not None and not ends[0] < ends[1]:
            raise ValueError("the first value, black, must be below the second, white")
        return ends

    @field_validator("shape")
    @classmethod
    def _is_image(cls, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if shape is not None and len(shape) not in (2, 3):
            raise ValueError("give height and width, or height, width and channels")
        return shape

    @field_validator("group_by")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"this is no regular expression ({error})") from None
        return pattern

    @property
    def height_width(self) -> tuple[int, int] | None:
        """The size that images are brought to; None if they keep their own."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size
