"""`limner reconstruct`: images beside what the model redraws."""

from pathlib import Path
from typing import Annotated

import torch
import tyro

from limner.commands.images import DataName, DataRoot
from limner.commands.pictures import opened, place, require_positive, tell
from limner.data import Split, frozen
from limner.figures import grids, style
from limner.figures.tiles import to_rgb
from limner.training.runs import Checkpoint, WeightKind


def reconstruct(
    run: Annotated[str, tyro.conf.Positional],
    /,
    *,
    n: int = 24,
    split: Split = "test",
    seed: int = 0,
    columns: int = 12,
    out: Path | None = None,
    checkpoint: Checkpoint = "best",
    data_name: DataName = None,
    data_root: DataRoot = None,
    weights: WeightKind = "ema",
) -> None:
    """Write images beside their reconstructions, after one draw from q(z | x), as PNG and SVG.

    Args:
        run: a run folder, or the name of a trained model
        n: number of images, the first of the split
        split: train, validation or test
        seed: of the draw
        columns: images in a row
        out: folder for the files; the run's figures/ where not given
        checkpoint: best by the validation bound, or last
        weights: averaged (ema) or raw
    """
    require_positive(n=n, columns=columns)
    found, subject = opened(
        run, checkpoint, weights, seed, data_name=data_name, data_root=data_root
    )
    x = frozen(subject.dataset, split, subject.model.config.observation)[:n]
    with torch.no_grad():
        observation = subject.model.infer(x, subject.generator(), trace=True).observation
    assert observation is not None
    drawn = grids.pairs(("image", to_rgb(x)), ("redrawn", to_rgb(observation.mean)), columns)
    tell(style.save(drawn, place(found, out), f"reconstructions-{split}"))
