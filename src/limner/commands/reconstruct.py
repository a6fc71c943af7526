"""`limner reconstruct`: images beside their reconstructions."""

from typing import Annotated

import torch

from limner.commands.options import FLAT, RunName
from limner.commands.pictures import DEFAULTS, Options, opened, require_positive, tell
from limner.data import Frozen, Split
from limner.figures import grids, style
from limner.figures.tiles import to_rgb


def reconstruct(
    run: RunName,
    /,
    options: Annotated[Options, FLAT] = DEFAULTS,
    *,
    n: int = 24,
    split: Split = "test",
    columns: int = 12,
) -> None:
    """Write images beside their reconstructions, after one draw from q(z | x), as PNG and SVG.

    Args:
        n: number of images, taken from the start of the split
        split: train, validation or test
        columns: number of images per row
    """
    require_positive(n=n, columns=columns)
    found, subject = opened(run, options)
    x = Frozen(subject.dataset, split, subject.model.config.observation)[:n]
    with torch.no_grad():
        observation = subject.model.infer(x, subject.generator(), trace=True).observation
    assert observation is not None
    drawn = grids.pairs(("image", to_rgb(x)), ("redrawn", to_rgb(observation.mean)), columns)
    tell(style.save(drawn, options.place(found), f"reconstructions-{split}"))
