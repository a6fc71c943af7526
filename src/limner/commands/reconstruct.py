"""`limner reconstruct`: images beside their reconstructions."""

from typing import Annotated

from limner.commands.options import FLAT, Pictures, RunName, check_split, shown_name
from limner.commands.pictures import DEFAULTS, Options, opened, require_positive, tell
from limner.data import Split
from limner.errors import printable
from limner.progress import progress_bar, suggest


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
        columns: number of images of a split per row
    """
    import numpy as np
    import torch

    from limner.data import Frozen
    from limner.figures import grids, style
    from limner.figures.contact import drawable
    from limner.pictures import to_rgb

    require_positive(n=n, columns=columns)
    check_split(pictures, split)
    found, subject = opened(run, options, pictures=pictures)
    x = Frozen(subject.dataset, split, subject.model.config.observation)[:n]
    folder, title = options.place(found), f"reconstructing {found.name}"
    with torch.no_grad(), progress_bar(title, len(x), about=f"to {folder}"):
        traced = subject.model.infer(x.to(subject.device), subject.generator(), trace=True)
    assert traced.observation is not None
    shown, redrawn = to_rgb(x), to_rgb(traced.observation.mean)
    if pictures:
        names = subject.dataset.test.names or ()
        rows = [
            (drawable(printable(name)), np.stack(pair))
            for name, *pair in zip(names[:n], shown, redrawn, strict=True)
        ]
        drawn = grids.named_pairs(rows, ["image", "redrawn"])
        if n < len(names):
            print(f"{n:,} of {len(names):,} shown; --n shows more")
    else:
        drawn = grids.pairs(("image", shown), ("redrawn", redrawn), columns)
    name = shown_name(found, subject.dataset, pictures, split)
    heading = f"Reconstructions: {found.name}"
    note = "Images as the model sees them, and the mean image after one draw from q(z | x)."
    tell(style.save(drawn, folder, f"reconstructions-{name}", title=heading, note=note))
    suggest("interpolate", run)
