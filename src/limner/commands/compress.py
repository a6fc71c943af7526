"""`limner compress`: images as a file whose size is the bound."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import tyro

from limner.commands.options import IMAGES, Images, RunName, shown_images
from limner.commands.pictures import require_positive, tell
from limner.data import Split
from limner.errors import InputError
from limner.progress import counted, progress_bar, suggest, wrapped
from limner.training.named import Checkpoint, WeightKind

if TYPE_CHECKING:
    from torch import Tensor

    from limner.coding.codec import Coded
    from limner.data import Dataset
    from limner.models import LatentVariableModel
    from limner.training.runs import Run

SHOWN, DEPTHS = 256, 16
"""Images and depths of the figure, at most."""
MOST_NAMES = 10_000
"""More pictures come back as one array."""
Given = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="IMAGES",
        help="a split (test, validation or train), or picture files, folders, zips or arrays of "
        "pictures, in this order; the test split if not given",
    ),
]


def compress(
    run: RunName,
    /,
    *,
    images: Given = (),
    out: Path,
    figure: Path | None = None,
    data: Images = IMAGES,
    num_images: int | None = None,
    keep: int | None = None,
    checkpoint: Checkpoint = "best",
    weights: WeightKind = "ema",
) -> None:
    """Compress images into a file whose size is the -ELBO, by bits-back coding.

    The file is lossless for the images as the model sees them: brought to its size and, for a
    bernoulli observation, binarized. It does not hold the model, which limner decompress needs.

    Prints bits per image and per dimension, without the initial bits, which the first images are
    lent and which do not grow with the number of images.

    Args:
        out: the file
        figure: a .png file; also draws rate against distortion, with more and more latent groups
            kept, beside JPEG and WebP of the same size, of the first 256 images
        num_images: compress only this many images, the first; all if not given
        keep: keep only this many latent groups (steps of a DRAW, layers of a hierarchy from the
            top); the rest are means of the prior: a smaller file and images that are similar
        checkpoint: best by validation -ELBO, or last
        weights: averaged over training steps (ema), or raw
    """
    from limner.coding.codec import coded
    from limner.data import Frozen
    from limner.storage import writable, write_atomically

    require_positive(num_images=num_images, keep=keep)
    _check_place(out, images)
    writable(out)
    if figure is not None and writable(figure).suffix != ".png":
        raise InputError(f"--figure must be a .png file; got {figure}.")
    split, pictures = _chosen(images)
    opened = data.open(run)
    dataset = shown_images(opened, pictures)
    x = Frozen(dataset, split, opened.config.model.observation)
    x = x.first(min(len(x), num_images or len(x)))[:]
    model = opened.model(checkpoint, weights)
    about = _about(opened, dataset, split, pictures, len(x)) | {
        "run": run,
        "checkpoint": checkpoint,
        "weights": weights,
    }
    started = time.monotonic()
    with progress_bar(f"compressing with {opened.name}", len(x), about=f"to {out}") as report:
        found = coded(model, x, keep, about, report)
    seconds = time.monotonic() - started
    write_atomically(out, found.data)
    of = "" if pictures else f" of {dataset.name}"
    which = f"{counted(len(x), 'picture' if pictures else f'{split} image')}{of}"
    print(wrapped(f"{which} in {out}, {len(found.data):,} bytes", sys.stdout))
    for name, said in _figures(model, found, x, len(x) / seconds).items():
        print(f"{name:<22}{said}")
    if figure is not None:
        _draw(opened, model, x[:SHOWN], figure)
    folder = shlex.quote(str(out.with_name(f"{out.stem}-images")))
    suggest(f"decompress {shlex.quote(str(out))} --out {folder}")


def _draw(run: "Run", model: "LatentVariableModel", x: "Tensor", path: Path) -> None:
    """Write the figure of rate against distortion."""
    from limner.coding.depth import curve
    from limner.coding.formats import FORMATS, by_quality
    from limner.figures import style
    from limner.figures.rate_distortion import rate_distortion
    from limner.models import RecurrentModel
    from limner.pictures import strided

    depths = [place + 1 for place in strided(model.num_groups, DEPTHS)]
    with progress_bar(f"keeping groups of {run.name}", len(depths), "depths") as report:
        points = curve(model, x, depths, report)
    unit = "step" if isinstance(model, RecurrentModel) else "group"
    made = rate_distortion(x, unit, points, {name: by_quality(x, name) for name in FORMATS})
    note = (
        f"The first {unit}s are stored, the others are means of the prior. {len(x)} images; JPEG "
        "and WebP have them in one sheet, at the best quality that is no larger. Numbers beside "
        "the rows are bits per dimension."
    )
    folder = style.output_folder(path.parent)
    tell(style.save(made, folder, path.stem, ["png"], title=f"Lossy: {run.name}", note=note))


def _check_place(out: Path, images: tuple[str, ...]) -> None:
    """Refuse a folder, and a file that is one of the pictures or lies among them."""
    if out.is_dir():
        raise InputError(f"{out} is a folder; choose the path of a file with --out.")
    place = out.resolve()
    for given in map(Path, images):
        if given.exists() and given.resolve() in (place, *place.parents):
            raise InputError(f"{out} is among the pictures of {given}; choose another --out.")


def _chosen(images: tuple[str, ...]) -> tuple[Split, tuple[Path, ...]]:
    """The split and no pictures, or pictures; an existing path wins over a split."""
    for split in get_args(Split):
        if images == (split,) and not Path(split).exists():
            return split, ()
    return "test", tuple(map(Path, images))


def _about(
    run: "Run", dataset: "Dataset", split: Split, pictures: tuple[Path, ...], count: int
) -> dict[str, Any]:
    """Where the images come from, and what compressed them."""
    from importlib.metadata import version

    import torch

    import limner
    from limner.data.arrays import ARRAY_SUFFIXES

    names = dataset.split(split).names
    if any(path.suffix.lower() in ARRAY_SUFFIXES for path in pictures):
        names = None
    return {
        "images": "pictures" if pictures else f"{split} images of {Path(dataset.name).name}",
        "binarization": dataset.binarization,
        "observation": run.config.model.observation,
        "versions": {
            "limner": limner.__version__,
            "torch": str(torch.__version__),
            "constriction": version("constriction"),
        },
        **({"names": list(names[:count])} if names and count <= MOST_NAMES else {}),
    }


def _figures(
    model: "LatentVariableModel", found: "Coded", x: "Tensor", speed: float
) -> dict[str, str]:
    """What there is to say about the file of images `x`, by name."""
    from math import log

    from limner.coding import decompress, sizes
    from limner.coding.depth import decibels

    size = sizes(found.data)
    bits = size.bits / size.images
    said = {
        "bits per image": f"{bits:.2f}, {bits / x[0].numel():.4f} per dimension",
        "header": f"{size.other:,} bits",
        "images per second": f"{speed:,.0f}",
    }
    if found.elbo is None:
        return said | {"PSNR": f"{decibels(decompress(model, found.data), x):.2f} dB"}
    nats, bound = bits * log(2), -found.elbo.mean().item()
    ratio = f"{nats / bound:.4f} of the -ELBO, {bound:.2f}"
    return (
        {"nats per image": f"{nats:.2f}, {ratio}"}
        | said
        | {"initial bits": f"{size.initial:,}, once"}
    )
