"""The style of all figures: thin grey axes, few colours that also differ in lightness.

Figures are matplotlib `Figure` objects without pyplot's global state; a function that makes one is
decorated with `styled`. Hues are from Okabe and Ito, safe for colour-blind readers.
"""

import functools
import io
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from limner.errors import InputError
from limner.figures.names import FORMATS, Format

INK, MUTED, RULE = "#24292f", "#6e7781", "#d0d7de"
FAINT = "#a5adb6"
"""Bars and lines beside those in colour."""
READ, WRITE = "#56b4e9", "#e69f00"
"""Windows: reading in sky blue and solid, writing in orange and dashed."""
READ_RGB, WRITE_RGB, CASING_RGB = (86, 180, 233), (230, 159, 0), (0, 0, 0)
"""The casing is a dark edge on both sides of a window's line, so that it is seen on white too."""
WRITING_WINDOW = "writing window in orange (dashed)"
WINDOWS = f"reading window in sky blue (solid), {WRITING_WINDOW}"
"""The words for captions."""
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (8, 2)), (0, (2, 3)))
"""Line styles that go with `SERIES`, to distinguish lines without colour."""
HEAT = "cividis"

LETTERS_PER_INCH = 17
"""Of text of 8 points."""

_RC: dict[Any, Any] = {
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "figure.dpi": 100,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "image.interpolation": "none",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "savefig.dpi": 160,
    "svg.hashsalt": "limner",
    "svg.fonttype": "path",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8,
}

_TIGHT: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.04}

P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """`function` run in Limner's style, whatever the caller's matplotlib settings are."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(_RC)
            return function(*args, **kwargs)

    return wrapped


def figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches."""
    return Figure((width, height), layout="constrained")


def panels(columns: int, width: float = 7.2, height: float = 2.3) -> tuple[Figure, list[Axes]]:
    """A figure of `width` x `height` inches with axes side by side."""
    made = figure(width, height)
    return made, list(made.subplots(1, columns, squeeze=False)[0])


def window_line(
    kind: Literal["reading", "writing"], width: float, casing: str = INK
) -> dict[str, Any]:
    """Colour, line style and casing of a line that stands for a window."""
    colour, line = (READ, "-") if kind == "reading" else (WRITE, (0, (3.5, 1.8)))
    effects = [Stroke(linewidth=width + 1.4, foreground=casing), Normal()]
    return {"color": colour, "linestyle": line, "linewidth": width, "path_effects": effects}


def typeset(name: str) -> str:
    """The name of a latent group with its number as an index: z_5 becomes $z_5$."""
    return re.sub(r"\bz_(\d+)", r"$z_{\1}$", name.replace("$", r"\$"))


def legible(text: str) -> str:
    """A text with ? for every character that the font lacks."""
    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(c if ord(c) in known else "?" for c in text)


def bare(axes: Axes) -> Axes:
    """Axes without ticks, frame and grid, for images."""
    axes.set_axis_off()
    axes.grid(False)
    return axes


@styled
def save(
    made: Figure,
    folder: Path,
    name: str,
    formats: Iterable[Format] = FORMATS,
    *,
    title: str = "",
    note: str = "",
) -> list[Path]:
    """Write `folder/name` in each format, on white. Returns the paths of the files.

    Args:
        title: a line above the figure, in the files only.
        note: lines below the title.
    """
    paths = [folder / f"{name}.{kind}" for kind in formats]
    heading = _heading(made, title, note)
    for path in paths:
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
        try:
            made.savefig(path, facecolor="white", metadata=metadata[path.suffix[1:]], **_TIGHT)
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}).") from None
    for text in heading:
        text.remove()
    return paths


def _heading(made: Figure, title: str, note: str) -> list[Text]:
    """Texts above the figure, outside its layout."""
    width, height = made.get_size_inches()
    letters = max(48, int(LETTERS_PER_INCH * width))
    notes = "\n".join(textwrap.wrap(legible(note), letters))
    titles = "\n".join(textwrap.wrap(legible(title), int(0.78 * letters)))
    texts, bottom = [], 1 + 0.1 / height
    for text, size, weight in ((notes, 8, "normal"), (titles, 10, "bold")):
        if text:
            drawn = made.text(0, bottom, text, va="bottom", size=size, weight=weight,
                              parse_math=False, linespacing=1.25)  # fmt: skip
            bottom += (text.count("\n") + 1) * size * 1.35 / 72 / height + 0.04 / height
            texts.append(drawn)
    return texts


def output_folder(folder: Path) -> Path:
    """`folder`, created if it is missing. Raises `InputError` if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be created ({error.strerror}); choose another --out."
        ) from None
    return folder


@styled
def themed_svg(made: Figure, box: Bbox | Literal["tight"] | None = "tight") -> str:
    """The figure as SVG whose text and axes follow the browser's light or dark colour scheme.

    Greys of the style become CSS variables, and the background is transparent. Empty margins are
    cut off, or what is outside a `box` in inches, or nothing.
    """
    stream, cut = io.StringIO(), _TIGHT | {"bbox_inches": box}
    made.savefig(stream, format="svg", transparent=True, metadata={"Date": None}, **cut)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    for colour, variable in ((INK, "--ink"), (MUTED, "--muted"), (RULE, "--rule")):
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<defs>", f"<style>{_THEMES}</style><defs>", 1)


_THEMES = (
    f":root{{--ink:{INK};--muted:{MUTED};--rule:{RULE}}}"
    "@media screen and (prefers-color-scheme:dark)"
    "{:root{--ink:#e6edf3;--muted:#8b949e;--rule:#3d444d}}"
)


def series(index: int) -> dict[str, Any]:
    """Colour and line style of line number `index`."""
    return {"color": SERIES[index % len(SERIES)], "linestyle": DASHES[index % len(DASHES)]}
