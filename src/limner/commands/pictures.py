"""What the commands that make pictures share: checks, the place of their files, progress."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from limner.commands.images import run_on
from limner.errors import InputError
from limner.figures.maps import Projection
from limner.figures.style import output_folder
from limner.figures.subject import Subject
from limner.training.runs import Checkpoint, Run, WeightKind

T = TypeVar("T")


def require_positive(**flags: float | int | None) -> None:
    """Raise `InputError` for a flag that is given and not above zero, or not finite."""
    for name, value in flags.items():
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"--{name.replace('_', '-')} must be above zero; got {value}.")


def require_seed(seed: int) -> None:
    """Raise `InputError` for what is no seed."""
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed must be from 0 to 2^63 - 1; got {seed}.")


def opened(
    run: str,
    checkpoint: Checkpoint = "best",
    weights: WeightKind = "ema",
    seed: int = 0,
    max_images: int | None = None,
    projection: Projection = "pca",
    data_name: str | None = None,
    data_root: Path | None = None,
) -> tuple[Run, Subject]:
    """A run with its model, images and metrics, for figures."""
    require_seed(seed)
    found = run_on(run, data_name, data_root)
    model = found.model(checkpoint, weights)
    subject = Subject(model, found.dataset(), found.metrics(), seed, max_images, projection)
    return found, subject


def place(run: Run, out: Path | None) -> Path:
    """The folder `out`, else the run's own figures/, made where it is missing."""
    return output_folder(run.out / "figures" if out is None else out)


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """`items` under a progress bar, which is seen on a terminal only."""
    console = Console(stderr=True)
    return track(
        items, description, total=total, console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip


def tell(paths: Sequence[Path]) -> None:
    """Print where files were written, one a line."""
    for path in paths:
        print(path)
