"""`limner encode`: posterior means of images, in one file."""

import io
import sys
from pathlib import Path
from typing import Annotated, Any

from limner.commands.options import (
    FLAT,
    SUBJECT,
    Pictures,
    RunName,
    Subject,
    check_split,
    shown_images,
    shown_name,
)
from limner.data import Split
from limner.errors import InputError
from limner.progress import counted, progress_bar, suggest, wrapped


def encode(
    run: RunName,
    /,
    subject: Annotated[Subject, FLAT] = SUBJECT,
    *,
    pictures: Pictures = (),
    out: Path | None = None,
    split: Split = "test",
    groups: tuple[int, ...] = (),
    features: bool = False,
    num_images: int | None = None,
) -> None:
    """Write posterior means of images, with their labels, to a NumPy .npz file.

    No latents are sampled: each group is given the means of the groups before it. The file holds
    `means` [images, dims], `names` [images] of the files, if they are known, `labels` [images], if
    there are labels, `split`, and `config`, the run's config as JSON.

    Args:
        out: the file; if not given RUN/SPLIT.npz, for other images RUN/NAME-SPLIT.npz, for PICTURES
            RUN/pictures-NAME.npz with the name of a single one or a key of several
        split: the images to encode
        groups: numbers of the latent groups to keep, from 1; all if not given
        features: write the decoder's final state instead of latent groups
        num_images: encode only this many images, the first of the split; all if not given
    """
    import numpy as np

    from limner.data import Frozen
    from limner.evaluation.representations import check_groups, encode_images
    from limner.storage import write_atomically

    opened = subject.data.open(run)
    check_split(pictures, split)
    if out is not None and out.suffix != ".npz":
        raise InputError(f"--out must be an .npz file; got {out}.")
    if num_images is not None and num_images < 1:
        raise InputError(f"Encode at least one image; got --num-images {num_images}.")
    model = subject.load(opened)
    check_groups(model, groups, features)
    dataset = shown_images(opened, pictures)
    path = out or opened.place(f"{shown_name(opened, dataset, pictures, split)}.npz")
    x = Frozen(dataset, split, opened.config.model.observation)
    x = x.first(len(x) if num_images is None else num_images)
    about = f"of {dataset.name} to {path}"
    with progress_bar(f"encoding {opened.name}", len(x), about=about) as report:
        means = encode_images(model, x, groups, features, report)
    arrays: dict[str, Any] = {
        "means": means.numpy(),
        "split": np.array("pictures" if pictures else split),
        "config": np.array(opened.config.to_json()),
    }
    images = dataset.split(split)
    if images.labels is not None:
        arrays["labels"] = images.labels[:num_images].numpy()
    if images.names is not None:
        arrays["names"] = np.array(images.names[:num_images])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())
    count = "" if pictures else f"{counted(len(means), f'{split} image')} of "
    what = f"{count}{dataset.name} as vectors of {means.shape[1]}"
    print(wrapped(f"{what}, written to {path}", sys.stdout))
    suggest("probe" if images.labels is not None else "figures", run)
