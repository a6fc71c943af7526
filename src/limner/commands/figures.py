"""`limner figures`: all figures of a run."""

from pathlib import Path
from typing import Annotated

import tyro

from limner.commands.images import DataName, DataRoot
from limner.commands.pictures import opened, place, progress, require_positive, tell
from limner.figures import gallery, style
from limner.figures.maps import Projection
from limner.training.runs import Checkpoint, WeightKind


def figures(
    run: Annotated[str, tyro.conf.Positional],
    /,
    *,
    formats: tuple[style.Format, ...] = style.FORMATS,
    projection: Projection = "tsne",
    max_images: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    checkpoint: Checkpoint = "best",
    data_name: DataName = None,
    data_root: DataRoot = None,
    weights: WeightKind = "ema",
) -> None:
    """Write every figure of a run: samples, curves, windows, maps, as vector and bitmap.

    Args:
        run: a run folder, or the name of a trained model
        formats: svg, png, pdf
        projection: of the representation to two dimensions
        max_images: test images that statistics are taken over; all where not given
        seed: of the latents
        out: folder for the files; the run's figures/ where not given
        checkpoint: best by the validation bound, or last
        weights: averaged (ema) or raw
    """
    require_positive(max_images=max_images)
    found, subject = opened(
        run, checkpoint, weights, seed, max_images, projection, data_name, data_root
    )
    folder = place(found, out)
    for picture in progress(gallery.pictures(subject), "Drawing", gallery.COUNT):
        tell(style.save(picture.figure, folder, picture.name, formats))
