"""`limner reconstruct`: images beside their reconstructions."""

from typing import Annotated

import numpy as np
import torch

from limner.commands.options import FLAT, Pictures, RunName
from limner.commands.pictures import DEFAULTS, Options, opened, require_positive, tell
from limner.data import Frozen, Split
from limner.errors import printable
from limner.figures import grids, style
from limner.figures.tiles import to_rgb


def reconstruct(
    run: RunName,
    /,
    options: Annotated[Options, FLAT] = DEFAULTS,
    *,
    pictures: Pictures = (),
    n: int = 24,
    split: Split = "test",
    columns: int = 12,
) -> None:
    """Write images beside their reconstructions, after one draw from q(z | x), as PNG and SVG.

    Args:
        n: number of images, taken from the start of the split or of PICTURES
        split: train, validation or test
        columns: number of images per row
    """
    require_positive(n=n, columns=columns)
    found, subject = opened(run, options, pictures=pictures)
    x = Frozen(subject.dataset, split, subject.model.config.observation)[:n]
    with torch.no_grad():
        observation = subject.model.infer(x, subject.generator(), trace=True).observation
    assert observation is not None
    shown, redrawn = to_rgb(x), to_rgb(observation.mean)
    if pictures:
        names = (subject.dataset.split(split).names or ())[:n]
        rows = [
            (printable(name), np.stack(pair))
            for name, *pair in zip(names, shown, redrawn, strict=True)
        ]
        drawn = grids.labelled_rows(rows, ["image", "redrawn"])
    else:
        drawn = grids.pairs(("image", shown), ("redrawn", redrawn), columns)
    name = f"reconstructions-{'pictures' if pictures else split}"
    tell(style.save(drawn, options.place(found), name))
