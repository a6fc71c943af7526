"""`limner figures`: all figures of a run."""

from typing import Annotated

from limner.commands.options import FLAT, RunName
from limner.commands.pictures import DEFAULTS, Options, opened, progress, require_positive, tell
from limner.figures.names import FORMATS, Format, Projection
from limner.progress import suggest


def figures(
    run: RunName,
    /,
    options: Annotated[Options, FLAT] = DEFAULTS,
    *,
    formats: tuple[Format, ...] = FORMATS,
    projection: Projection = "tsne",
    max_images: int | None = None,
) -> None:
    """Write every figure of a run: samples, curves, windows and maps, as vectors and bitmaps.

    Args:
        formats: svg, png, pdf
        projection: how the representation is reduced to two dimensions
        max_images: number of test images used for statistics; all if not given
    """
    from limner.figures import gallery, style

    require_positive(max_images=max_images)
    found, subject = opened(run, options, max_images, projection)
    folder = options.place(found)
    drawn = gallery.candidates(subject)
    title, where = f"drawing {found.name}", f"to {folder}"
    for picture in progress(drawn, title, gallery.COUNT, "kinds of figures", where):
        if picture is not None:
            heading = f"{picture.title}: {found.name}"
            note = picture.caption
            paths = style.save(
                picture.figure, folder, picture.name, formats, title=heading, note=note
            )
            tell(paths)
    suggest("report", run)
