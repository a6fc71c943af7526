"""`limner animate`: the drawing, step by step, as GIF and as a still strip."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from limner.commands.options import FLAT, RunName
from limner.commands.pictures import DEFAULTS, Options, opened, progress, require_positive, tell
from limner.errors import InputError
from limner.progress import suggest

if TYPE_CHECKING:
    from limner.figures.films import Film
    from limner.figures.subject import Subject

Shown = Literal["samples", "reconstructions"]
MAX_PIXELS = 2**28
"""Limit on the pixels of all frames together, about 0.8 GB."""


def animate(
    run: RunName,
    /,
    options: Annotated[Options, FLAT] = DEFAULTS,
    *,
    grid: tuple[int, int] = (4, 4),
    seconds: float = 4.0,
    hold: float = 1.5,
    magnification: int = 4,
    show: tuple[Shown, ...] = ("samples", "reconstructions"),
    rows: int = 5,
) -> None:
    """Animate samples being drawn and test images being reconstructed, as GIFs and still strips.

    With attention, the reading window is in sky blue (solid) and the writing window in orange
    (dashed). A window reaches from its first to its last filter; its line widens with sigma. A
    ladder is shown layer by layer, and a model with one latent group as a walk through its latent
    space.

    Args:
        grid: rows and columns of images
        seconds: duration of one round, from the first step to the last
        hold: seconds for which the last step is shown
        magnification: side of each pixel, in screen pixels
        show: samples, reconstructions or both
        rows: number of images in the still strips
    """
    from limner.figures import films, style

    require_positive(grid=min(grid), seconds=seconds, magnification=magnification, rows=rows)
    if not 0 <= hold < math.inf:
        raise InputError(f"--hold must not be negative; got {hold}.")
    found, subject = opened(run, options)
    _check_size(subject, grid, magnification)
    folder, paths = options.place(found), []
    made = _films(subject, show, grid, magnification)
    title, count = f"animating {found.name}", len(set(show))
    for name, film in progress(made, title, count, "films", f"to {folder}"):
        gif = folder / f"animation-{name}.gif"
        paths.append(films.save_gif(film.frames(grid[1]), gif, seconds, hold))
        heading = f"{film.title}: {found.name}"
        still, note = films.strip(film, rows), film.caption
        paths += style.save(still, folder, f"animation-{name}-strip", title=heading, note=note)
    tell(paths)
    suggest("figures", run)


def _films(
    subject: "Subject", show: tuple[Shown, ...], grid: tuple[int, int], magnification: int
) -> "Iterator[tuple[str, Film]]":
    from limner.figures import scenes

    n = grid[0] * grid[1]
    for name in dict.fromkeys(show):
        if name == "samples":
            film = scenes.generation_film(subject.model, n, subject.generator(), magnification)
        else:
            x = subject.x[:n]
            film = scenes.explanation_film(subject.model, x, subject.generator(), magnification)
        yield name, film


def _check_size(subject: "Subject", grid: tuple[int, int], magnification: int) -> None:
    """Refuse what would not fit in memory, before any work."""
    from limner.figures import scenes

    _, height, width = subject.model.image_shape
    steps = max(subject.model.num_groups, scenes.STOPS * scenes.STEPS_BETWEEN)
    pixels = 2 * steps * grid[0] * grid[1] * height * width * magnification**2
    if pixels > MAX_PIXELS:
        raise InputError(
            f"A grid of {grid[0]} x {grid[1]} magnified {magnification} times would need "
            f"{3 * pixels / 2**30:.1f} GiB; make --grid or --magnification smaller."
        )
