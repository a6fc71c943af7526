"""`limner data show`: what a source of images has, and a contact sheet, before any training."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from limner.data import DataConfig
from limner.errors import InputError, printable
from limner.progress import suggest, waiting, wrapped

if TYPE_CHECKING:
    from limner.data import Dataset

DEFAULT_DATA = DataConfig()
_MOST = 12
"""Classes or kinds that are listed one by one."""
_SIZES = 5


def show(
    source: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")] = None,
    /,
    *,
    data: DataConfig = DEFAULT_DATA,
    out: Path | None = None,
) -> None:
    """Show what a source of images has, and write a contact sheet.

    Args:
        source: a name from `limner data list`, hub:NAME, or a path; in place of --data.name
        data: how the images are read, with the flags of `limner train`
        out: the file of the contact sheet, .png; by default SOURCE-contact-sheet.png, here
    """
    from limner.data.needs import preview
    from limner.figures import style
    from limner.figures.contact import contact_sheet

    path = out or Path(f"{_stem(source or data.name)}-contact-sheet.png")
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} is no name for a contact sheet; give --out NAME.png.")
    chosen = data if source is None else data.with_(name=source)
    with waiting(f"loading {chosen.name}"):
        dataset, needs = preview(chosen)
    lines = _lines(dataset) | ({"needs": "; ".join(needs)} if needs else {})
    for name, text in lines.items():
        print(wrapped(f"{name:<13}{printable(text)}", sys.stdout, 13 * " "))
    folder = style.output_folder(path.parent)
    style.save(contact_sheet(dataset), folder, path.stem, ["png"])
    print(f"{'sheet':<13}{printable(str(path))}")
    suggest("train vae --data.name", source or data.name)


def _stem(name: str) -> str:
    """What a file is called after a source: its last part, in letters that every system allows."""
    last = Path(name.removeprefix("hub:")).expanduser().resolve().stem
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in last) or "images"


def _lines(dataset: "Dataset") -> dict[str, str]:
    """What there is to say, by subject."""
    from limner.data import SPLITS, natural_observation
    from limner.data.census import size_range

    found = dataset.found
    counts = {split: len(dataset.split(split)) for split in SPLITS if len(dataset.split(split))}
    channels, height, width = dataset.image_shape
    lines = {
        "source": dataset.name,
        "images": f"{sum(counts.values()):,}: {_listed(counts)}",
        "pixels": f"{width} x {height} {'grey' if channels == 1 else 'RGB'}"
        + (", only black and white" if dataset.is_binary else ""),
    }
    if found is not None and found.sizes:
        several = f"{size_range(found.sizes)}: " if len(found.sizes) > 1 else ""
        lines["sizes"] = several + _listed(found.sizes, _SIZES) + " (width x height, in the files)"
    if found is not None and found.modes:
        lines["kinds"] = _listed(found.modes)
    lines["classes"] = _classes(dataset)
    lines["memory"] = _memory(dataset)
    lines["observation"] = f"{natural_observation(dataset)}, binarization {dataset.binarization}"
    lines["skipped"] = found.skipped if found is not None and found.skipped else "nothing"
    if found is not None:
        lines["duplicates"] = f"{found.duplicates:,} in more than one split"
    return lines


def _classes(dataset: "Dataset") -> str:
    import numpy as np

    from limner.data import SPLITS

    labels, names = [dataset.split(split).labels for split in SPLITS], dataset.class_names
    known = [part.numpy() for part in labels if part is not None]
    if not known:
        return "not known"
    classes, counts = np.unique(np.concatenate(known), return_counts=True)
    shown = [names[label] if names else str(label) for label in classes.tolist()]
    return f"{len(classes):,}: {_listed(dict(zip(shown, counts.tolist(), strict=True)))}"


def _memory(dataset: "Dataset") -> str:
    from limner.data import SPLITS
    from limner.data.mapped import is_mapped

    size = sum(dataset.split(split).levels.numel() for split in SPLITS)
    large = any(is_mapped(dataset.split(split).levels) for split in SPLITS)
    place = "in a file that is mapped, of which little is in memory" if large else "in memory"
    return f"{size / 2**20:,.1f} MiB of pixels, {place}"


def _listed(counts: Mapping[str, int], most: int = _MOST) -> str:
    """Such as train (4,000), test (500); the most frequent ones first if there are many."""
    pairs = list(counts.items())
    if len(pairs) > most:
        pairs = sorted(pairs, key=lambda pair: -pair[1])[:most]
    text = ", ".join(f"{name} ({count:,})" for name, count in pairs)
    return text if len(counts) <= most else f"{text}, and {len(counts) - most:,} more"
