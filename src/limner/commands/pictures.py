"""What the commands that make pictures share: flags, checks, output folder, progress."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from limner.commands import options
from limner.commands.options import shown_images
from limner.errors import InputError
from limner.figures.names import Projection
from limner.progress import progress_bar

if TYPE_CHECKING:
    from limner.figures.subject import Subject
    from limner.training.runs import Run

T = TypeVar("T")


@dataclass(frozen=True)
class Options(options.Subject):
    """Which weights and images, and where to write."""

    seed: int = 0
    """seed of the latents"""
    out: Path | None = None
    """folder for the files; the run's figures/ if not given"""

    def place(self, run: "Run") -> Path:
        """The folder for the files, created if missing."""
        return place(run, self.out)


DEFAULTS = Options()


def require_positive(**flags: float | int | None) -> None:
    """Raise `InputError` for a flag that is given and is not positive and finite."""
    for name, value in flags.items():
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"--{name.replace('_', '-')} must be above zero; got {value}.")


def require_seed(seed: int) -> None:
    """Raise `InputError` for an invalid seed."""
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed must be from 0 to 2^63 - 1; got {seed}.")


def opened(
    run: str,
    options: Options,
    max_images: int | None = None,
    projection: Projection = "pca",
    pictures: tuple[Path, ...] = (),
) -> "tuple[Run, Subject]":
    """A run with its model, images (or `pictures` in their place) and metrics, for figures."""
    from limner.figures.subject import Subject

    require_seed(options.seed)
    found = options.data.open(run)
    subject = Subject(
        options.load(found),
        shown_images(found, pictures),
        found.metrics(),
        options.seed,
        max_images,
        projection,
    )
    return found, subject


def place(run: "Run", out: Path | None) -> Path:
    """The folder `out`, or the run's figures/ if not given, created if missing."""
    from limner.figures.style import output_folder

    return output_folder(run.out / "figures" if out is None else out)


def progress(items: Iterable[T], title: str, total: int, unit: str, about: str = "") -> Iterator[T]:
    """`items`, of which there are `total`, with a display of their progress; see `progress_bar`."""
    with progress_bar(title, total, unit, about) as report:
        for done, item in enumerate(items, 1):
            yield item
            report(done, "")


def tell(paths: Sequence[Path]) -> None:
    """Print the paths of written files, one per line."""
    for path in paths:
        print(path, flush=True)
