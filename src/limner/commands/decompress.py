"""`limner decompress`: the images in a file of `limner compress`."""

import io
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from limner.errors import InputError
from limner.progress import counted, progress_bar, suggest, waiting, warn, wrapped

if TYPE_CHECKING:
    import numpy as np

    from limner.models import LatentVariableModel


def decompress(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    /,
    *,
    out: Path,
    run: str | None = None,
) -> None:
    """Write the images in a file of limner compress to a folder.

    Images that came from picture files become PNG files under their names. Others become
    images.npz, with `images`, 8-bit levels [N, H, W] or [N, H, W, C] as every command takes them.

    Args:
        file: the file
        out: a new or empty folder
        run: the run folder, name or hub:owner/name of the model; as the file says if not given
    """
    from limner.coding import decompress as decoded
    from limner.coding.container import unpacked
    from limner.hub import PREFIX
    from limner.pictures import to_levels
    from limner.storage import writable

    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {file}: {error.strerror}.") from None
    header, _ = unpacked(data)
    _check_free(out)
    name = run or _text(header.about, "run")
    if not name:
        raise InputError(f"{file} does not say what compressed it; name the model with --run.")
    if run is None and name.startswith(PREFIX):  # a file must not choose what is downloaded
        raise InputError(f"{file} was compressed with {name}; give that with --run.")
    writable(out)
    model = _model(file, name, header.about, run is None)
    started = time.monotonic()
    with progress_bar(f"decompressing {file.name}", header.images, about=f"to {out}") as report:
        x = decoded(model, data, report=report)
    seconds = time.monotonic() - started
    levels = to_levels(x)
    names = header.about.get("names")
    files = _pictures(names, levels) if isinstance(names, list) else _array(levels)
    _write(out, files)
    speed = f"{len(levels) / seconds:,.0f} images per second"
    print(wrapped(f"{counted(len(levels), 'image')} in {out}, {speed}", sys.stdout))
    suggest("data show", out if isinstance(names, list) else out / "images.npz")


def _model(file: Path, name: str, about: dict[str, Any], is_stated: bool) -> "LatentVariableModel":
    """The model, with the weights that the file names."""
    from limner.training.loading import load

    chosen: Any = _text(about, "checkpoint") or "best", _text(about, "weights") or "ema"
    try:
        with waiting(f"loading {name}"):
            return load(name, *chosen)
    except InputError as error:
        if not is_stated:
            raise
        why = str(error).removesuffix(".")
        raise InputError(f"{why}; name the model of {file} with --run.") from None


def _text(about: dict[str, Any], key: str) -> str:
    value = about.get(key)
    return value if isinstance(value, str) else ""


def _check_free(folder: Path) -> None:
    """Refuse what is not a new or empty folder."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} holds something; choose a new or empty folder with --out.")


def _pictures(names: list[Any], levels: "np.ndarray") -> Iterator[tuple[str, bytes]]:
    """Each image as PNG, under its name if all are different, otherwise by number."""
    from limner.pictures import png, to_rgb

    places = [_place(name) for name in names]
    distinct = {place.casefold() for place in places if place}
    if not len(places) == len(distinct) == len(levels):
        warn("Names of pictures are equal without their suffixes, so the pictures are numbered.")
        places = [f"{number:06}" for number in range(len(levels))]
    for place, image in zip(places, levels, strict=True):
        grey = image.shape[0] == 1
        yield f"{place}.png", png(image[0] if grey else to_rgb(image / 255))


def _place(name: Any) -> str:
    """A name without its suffix as a path inside a folder, on every system."""
    parts = PurePosixPath(str(name).replace("\\", "/")).parts
    kept = [re.sub(r"[^\w .()+,=@-]", "_", part) for part in parts if part.strip("/. ")]
    return re.sub(r"\.\w+$", "", "/".join(kept))


def _array(levels: "np.ndarray") -> Iterator[tuple[str, bytes]]:
    """All images in one file."""
    import numpy as np

    buffer = io.BytesIO()
    last = np.moveaxis(levels, 1, -1)
    np.savez_compressed(buffer, images=last[..., 0] if last.shape[-1] == 1 else last)
    yield "images.npz", buffer.getvalue()


def _write(folder: Path, files: Iterator[tuple[str, bytes]]) -> None:
    """Write all files, or no folder."""
    from limner.storage import unwritable

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            made = Path(temporary) / "made"
            for name, content in files:
                path = made / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if folder.exists():
                folder.rmdir()
            made.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from None
