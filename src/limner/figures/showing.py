"""`limner.show`: anything that Limner makes, where it can be seen."""

import io
import os
import sys
import tempfile
import webbrowser
from itertools import count
from pathlib import Path

from PIL import Image
from rich.console import Console

from limner import notebook
from limner.errors import InputError
from limner.figures.exhibits import Exhibit, exhibit_of


def show(what: object, path: str | Path | None = None) -> Path | None:
    """Show images, a result or a figure where it can be seen.

    In a notebook it is displayed below the cell. Elsewhere, results and histories are printed as
    tables. Pictures open in the system's viewer if there is a terminal and a display, and otherwise
    are written to limner-1.png, limner-2.png and so on in the current folder, whose path is
    printed. The backend and the settings of matplotlib stay as they are.

    Args:
        what: a Generation, an Inference, images [n, C, H, W], [C, H, W] or [H, W] (floats in
            [0, 1], bool or uint8), a list of images of one shape, a Film, an Evaluation, a
            Comparison, a History, the result of `limner.fit` (its history), a Dataset, or a
            matplotlib Figure.
        path: write this file instead: .png or .html for images, .gif or .html for a film, .png,
            .svg, .pdf or .html for figures, histories and datasets, .txt or .html for tables.

    Returns:
        The path of a file that was written, otherwise None.

    Raises:
        InputError: what cannot be shown, or a path that cannot be written.
    """
    exhibit = exhibit_of(what)
    if path is not None:
        return _written(exhibit, Path(path))
    if notebook.in_notebook():
        notebook.display(exhibit.html())
        return None
    if exhibit.text is not None:
        Console().print(exhibit.text)
    if exhibit.picture is None or exhibit.on_request:
        return None
    suffix = exhibit.suffixes[0]
    content = exhibit.picture(suffix)
    if _has_display() and _opened(content, suffix):
        return None
    written = _numbered(content, suffix)
    print(written)
    return written


def _written(exhibit: Exhibit, path: Path) -> Path:
    """Write the form of the exhibit that the suffix of `path` names."""
    suffix = path.suffix.lower()
    if suffix == ".html":
        page = f'<!doctype html><meta charset="utf-8"><title>Limner</title>{exhibit.html()}'
        content = page.encode()
    elif exhibit.picture is not None and suffix in exhibit.suffixes:
        content = exhibit.picture(suffix)
    elif exhibit.text is not None and suffix == ".txt":
        stream = io.StringIO()
        Console(file=stream, width=120).print(exhibit.text)
        content = stream.getvalue().encode()
    else:
        pictures = exhibit.suffixes if exhibit.picture else ()
        known = [*pictures, *([".txt"] if exhibit.text is not None else []), ".html"]
        raise InputError(f"This is written as {' or '.join(known)}, not as {path.name}; rename it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another.") from None
    return path


def _has_display() -> bool:
    """Whether a person at this terminal can see a window."""
    if not (sys.stdout.isatty() or hasattr(sys, "ps1")):
        return False
    graphical = sys.platform in ("win32", "darwin")
    return graphical or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _opened(content: bytes, suffix: str) -> bool:
    """Whether the system's viewer of pictures, or its browser for a film, was started."""
    if suffix == ".png":
        from PIL import ImageShow  # imports IPython if that is installed

        with Image.open(io.BytesIO(content)) as image:
            return bool(ImageShow.show(image, "Limner"))
    file, name = tempfile.mkstemp(suffix, "limner-")
    with open(file, "wb") as stream:
        stream.write(content)
    return webbrowser.open(Path(name).as_uri())


def _numbered(content: bytes, suffix: str) -> Path:
    """Write to the first of limner-1.png, limner-2.png and so on that does not exist."""
    for number in count(1):
        path = Path(f"limner-{number}{suffix}")
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(
                f"{path.absolute()} cannot be written ({error.strerror}); give show a path."
            ) from None
        return path
    raise AssertionError
