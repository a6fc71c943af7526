"""`limner sample`: images from the prior."""

from pathlib import Path
from typing import Annotated

from limner.commands.options import FLAT, WEIGHTS, RunName, Weights
from limner.commands.pictures import place, require_positive, require_seed, tell
from limner.errors import InputError
from limner.progress import progress_bar, suggest

BATCH = 500


def sample(
    run: RunName,
    /,
    weights: Annotated[Weights, FLAT] = WEIGHTS,
    *,
    n: int = 64,
    seed: int = 0,
    draw: bool = False,
    npz: bool = False,
    columns: int | None = None,
    magnification: int = 4,
    out: Path | None = None,
) -> None:
    """Write images from the prior as one PNG, and as an .npz if asked.

    Args:
        n: number of images
        seed: seed of the latents and pixels
        draw: sample pixels, x ~ p(x | z), instead of writing mean images
        npz: also write an .npz with `images`, float32 [n, channels, height, width] in [0, 1]
        columns: columns of the grid; as many as rows if not given
        magnification: side of each pixel, in screen pixels
        out: folder for the files; the run's figures/ if not given
    """
    import numpy as np
    import torch
    from PIL import Image

    from limner.pictures import columns_for, magnify, tile, to_rgb
    from limner.training.runs import Run

    require_positive(n=n, columns=columns, magnification=magnification)
    require_seed(seed)
    found = Run.open(run)
    model, generator = weights.load(found), torch.Generator().manual_seed(seed)
    stem = place(found, out) / f"{'drawn-' if draw else ''}samples-seed-{seed}"
    images = torch.empty(n, *model.image_shape)
    title = f"sampling {found.name}"
    with torch.no_grad(), progress_bar(title, n, about=f"to {stem.parent}") as report:
        for first in range(0, n, BATCH):
            count = min(BATCH, n - first)
            images[first : first + count] = model.sample(count, generator, draw)
            report(first + count, "")
    grid = tile(magnify(to_rgb(images), magnification), columns or columns_for(n), magnification)
    paths = [stem.with_suffix(".png")]
    try:
        Image.fromarray(grid).save(paths[0])
        if npz:
            paths.append(stem.with_suffix(".npz"))
            np.savez_compressed(paths[1], images=images.numpy())
    except OSError as error:
        raise InputError(f"{paths[-1]} cannot be written ({error.strerror}).") from None
    tell(paths)
    suggest("reconstruct", run)
