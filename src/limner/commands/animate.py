"""`limner animate`: the drawing, step by step, as GIF and as a still strip."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import tyro

from limner.commands.images import DataName, DataRoot
from limner.commands.pictures import opened, place, progress, require_positive, tell
from limner.errors import InputError
from limner.figures import films, scenes, style
from limner.figures.films import Film
from limner.figures.subject import Subject
from limner.training.runs import Checkpoint, WeightKind

Shown = Literal["samples", "reconstructions"]
MAX_PIXELS = 2**28
"""Of all frames together, about 0.8 GB."""


def animate(
    run: Annotated[str, tyro.conf.Positional],
    /,
    *,
    grid: tuple[int, int] = (4, 4),
    seconds: float = 4.0,
    hold: float = 1.5,
    magnification: int = 4,
    show: tuple[Shown, ...] = ("samples", "reconstructions"),
    rows: int = 5,
    seed: int = 0,
    out: Path | None = None,
    checkpoint: Checkpoint = "best",
    data_name: DataName = None,
    data_root: DataRoot = None,
    weights: WeightKind = "ema",
) -> None:
    """Animate samples being drawn and test images being reconstructed, as GIFs and still strips.

    With attention, the window that is written to is red, the one that is read green, from the
    first to the last filter, their lines wider the blurrier the filters. Models without steps show
    their layers one by one, or a walk through their latent space.

    Args:
        run: a run folder, or the name of a trained model
        grid: rows and columns of images
        seconds: for one round, from the first step to the last
        hold: seconds that the last step stays
        magnification: screen pixels a side of each pixel
        show: samples, reconstructions or both
        rows: images in the still strips
        seed: of the latents
        out: folder for the files; the run's figures/ where not given
        checkpoint: best by the validation bound, or last
        weights: averaged (ema) or raw
    """
    require_positive(grid=min(grid), seconds=seconds, magnification=magnification, rows=rows)
    if not 0 <= hold < math.inf:
        raise InputError(f"--hold must not be negative; got {hold}.")
    found, subject = opened(
        run, checkpoint, weights, seed, data_name=data_name, data_root=data_root
    )
    _check_size(subject, grid, magnification)
    folder, paths = place(found, out), []
    for name, film in progress(_films(subject, show, grid, magnification), "Animating", len(show)):
        gif = folder / f"animation-{name}.gif"
        paths.append(films.save_gif(film.frames(grid[1]), gif, seconds, hold))
        paths += style.save(films.strip(film, rows), folder, f"animation-{name}-strip")
    tell(paths)


def _films(
    subject: Subject, show: tuple[Shown, ...], grid: tuple[int, int], magnification: int
) -> Iterator[tuple[str, Film]]:
    n = grid[0] * grid[1]
    for name in dict.fromkeys(show):
        if name == "samples":
            film = scenes.generation_film(subject.model, n, subject.generator(), magnification)
        else:
            x = subject.x[:n]
            film = scenes.explanation_film(subject.model, x, subject.generator(), magnification)
        yield name, film


def _check_size(subject: Subject, grid: tuple[int, int], magnification: int) -> None:
    """Refuse what would fill the memory, before any work."""
    _, height, width = subject.model.image_shape
    steps = max(subject.model.num_groups, scenes.STOPS * scenes.STEPS_BETWEEN)
    pixels = 2 * steps * grid[0] * grid[1] * height * width * magnification**2
    if pixels > MAX_PIXELS:
        raise InputError(
            f"A grid of {grid[0]} x {grid[1]} magnified {magnification} times would take "
            f"{3 * pixels / 2**30:.1f} GiB; make --grid or --magnification smaller."
        )
