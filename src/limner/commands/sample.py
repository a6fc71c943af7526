"""`limner sample`: images from the prior."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from PIL import Image

from limner.commands.pictures import place, require_positive, require_seed, tell
from limner.errors import InputError
from limner.figures.tiles import columns_for, magnify, tile, to_rgb
from limner.training.runs import Checkpoint, Run, WeightKind

BATCH = 500


def sample(
    run: Annotated[str, tyro.conf.Positional],
    /,
    *,
    n: int = 64,
    seed: int = 0,
    draw: bool = False,
    npz: bool = False,
    columns: int | None = None,
    magnification: int = 4,
    out: Path | None = None,
    checkpoint: Checkpoint = "best",
    weights: WeightKind = "ema",
) -> None:
    """Write images from the prior as one PNG, and as an .npz if asked.

    Args:
        run: a run folder, or the name of a trained model
        n: number of images
        seed: of the latents and pixels that are drawn
        draw: draw pixels, x ~ p(x | z), in place of mean images
        npz: also write them as `images`, float32 [n, channels, height, width] in [0, 1]
        columns: of the grid; as many as rows where not given
        magnification: screen pixels a side of each pixel
        out: folder for the files; the run's figures/ where not given
        checkpoint: best by the validation bound, or last
        weights: averaged (ema) or raw
    """
    require_positive(n=n, columns=columns, magnification=magnification)
    require_seed(seed)
    found = Run.open(run)
    model, generator = found.model(checkpoint, weights), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        batches = [min(BATCH, n - done) for done in range(0, n, BATCH)]
        images = torch.cat([model.sample(k, generator, draw) for k in batches])
    stem = place(found, out) / f"{'drawn-' if draw else ''}samples-seed-{seed}"
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
