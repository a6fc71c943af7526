"""`limner interpolate`: a walk between two images or two draws from the prior."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from limner.commands.options import FLAT, SUBJECT, RunName, Subject, shown_images
from limner.commands.pictures import progress, require_seed
from limner.data import Split
from limner.errors import InputError
from limner.progress import suggest, wrapped

if TYPE_CHECKING:
    from torch import Tensor

    from limner.models import LatentVariableModel

Walk = Literal["line", "sphere"]
WALKS: tuple[Walk, ...] = ("line", "sphere")


def interpolate(
    run: RunName,
    /,
    subject: Annotated[Subject, FLAT] = SUBJECT,
    *,
    images: tuple[int, int] | None = None,
    frames: int = 10,
    walks: Literal["line", "sphere", "both"] = "both",
    out: Path | None = None,
    split: Split = "test",
    seed: int = 0,
) -> None:
    """Walk between two images or two draws from the prior, through all latent groups at once.

    Writes a PNG with a row of mean images per walk: one on a line, one on a sphere. For a walk
    between images, the first and last picture of a row are the images themselves.

    Args:
        images: numbers of two images of the split, from 0; two draws from the prior if not given
        frames: number of points of a walk, including both ends
        walks: on the line, on the sphere, or both
        out: the file; RUN/figures/interpolation.png if not given
        split: the split of the images
        seed: seed of the draws from the prior
    """
    import torch

    from limner.data import Frozen
    from limner.evaluation.interpolation import noise_of_images, noise_of_prior
    from limner.figures import grids, style
    from limner.pictures import to_rgb

    opened = subject.data.open(run)
    require_seed(seed)
    if frames < 2:
        raise InputError(f"--frames must be at least 2, the two ends of a walk; got {frames}.")
    path = out or opened.out / "figures" / "interpolation.png"
    if path.suffix != ".png":
        raise InputError(f"--out must be a .png file; got {path}.")
    model = subject.load(opened)
    if images is None:
        shown, noise = None, noise_of_prior(model, 2, torch.Generator().manual_seed(seed))
    else:
        x = Frozen(shown_images(opened), split, opened.config.model.observation)
        if not all(0 <= index < len(x) for index in images):
            raise InputError(f"The {split} split has images 0 to {len(x) - 1}; got {images}.")
        shown = x.take(images)
        noise = noise_of_images(model, shown.to(next(model.parameters()).device))
    chosen: list[Walk] = [one for one in WALKS if walks in (one, "both")]
    made = (_row(model, noise, shown, frames, one) for one in chosen)
    title = f"interpolating {opened.name}"
    rows = list(progress(made, title, len(chosen), "walks", f"of {frames} frames to {path}"))
    ends = "two draws from the prior"
    if images is not None:
        ends = f"{split} images {images[0]} and {images[1]}"
    labelled = [(f"on a {one}", to_rgb(row)) for one, row in zip(chosen, rows, strict=True)]
    drawn, folder = grids.walks(labelled, images is not None), style.output_folder(path.parent)
    title = f"Interpolation between {ends}: {opened.name}"
    note = "Mean images at equal distances, in all latent groups at once."
    style.save(drawn, folder, path.stem, ["png"], title=title, note=note)
    print(wrapped(f"written to {path}", sys.stdout))
    suggest("animate", run)


def _row(
    model: "LatentVariableModel",
    noise: "Tensor",
    shown: "Tensor | None",
    frames: int,
    chosen: Walk,
) -> "Tensor":
    """Mean images of one walk [frames, C, H, W], with the images in `shown` at both ends."""
    import torch

    from limner.evaluation.interpolation import decode_noise, walk

    drawn = decode_noise(model, walk(noise[0], noise[1], frames, chosen)).cpu()
    return drawn if shown is None else torch.cat([shown[:1], drawn, shown[1:]])
