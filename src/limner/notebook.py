"""HTML for notebooks: pictures, tables and curves, in light and dark themes.

Text has the colour of the page. Nothing here runs a model, draws random numbers or changes a
plotting library's state.
"""

import base64
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from html import escape
from importlib import import_module

CURVE = 320, 130
"""Width and height of a curve, in screen pixels."""
_CELL = "padding:.15em .8em;text-align:right;white-space:nowrap"
_TITLE = "font-weight:600;margin:.2em 0"
_NOTE = "opacity:.75;margin:.2em 0"
Line = Sequence[float | None]


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel, which displays HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def display(html: str) -> None:
    """Show HTML below the cell that runs."""
    ipython = import_module("IPython.display")
    ipython.display(ipython.HTML(html))


def page(*parts: str) -> str:
    """Parts of a representation, one below the other."""
    return f"<div>{''.join(parts)}</div>"


def title(text: str) -> str:
    return f'<div style="{_TITLE}">{escape(text)}</div>'


def note(text: str) -> str:
    return f'<div style="{_NOTE}">{escape(text)}</div>'


def image(content: bytes, kind: str, width: int, alt: str) -> str:
    """An image in the page itself, `width` screen pixels wide; its pixels stay sharp squares."""
    data = base64.b64encode(content).decode("ascii")
    style = f"width:{width}px;max-width:100%;height:auto;image-rendering:pixelated"
    return f'<img src="data:image/{kind};base64,{data}" alt="{escape(alt)}" style="{style}">'


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is left-aligned and whose others are right-aligned."""
    head = "".join(f'<th style="{_cell(k)}">{escape(text)}</th>' for k, text in enumerate(headings))
    body = "".join(
        "<tr>"
        + "".join(f'<td style="{_cell(k)}">{escape(text)}</td>' for k, text in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def curves(x: Sequence[float], lines: Mapping[str, Line]) -> str:
    """Lines over `x` as SVG, at most two; the first has the colour of the text.

    The range of y leaves out the first tenth, which would flatten the rest. A value that is None
    or not finite leaves a gap.
    """
    (low, high), (width, height) = _range(lines.values()), CURVE
    span = (x[-1] - x[0]) or 1.0
    paths = []
    for line, (stroke, dashes) in zip(lines.values(), _STROKES, strict=False):
        places = [
            f"{width * (at - x[0]) / span:.1f},{height * (high - value) / (high - low):.1f}"
            if value is not None and math.isfinite(value)
            else None
            for at, value in zip(x, line, strict=True)
        ]
        style = f'fill="none" stroke="{stroke}" stroke-width="1.5" stroke-linecap="round"{dashes}'
        paths += [f'<polyline points="{part}" {style}/>' for part in _unbroken(places)]
    frame = f'<rect width="{width}" height="{height}" {_FRAME}/>'
    text = f'<text x="{width + 6}" y="{{}}" {_TEXT}>{{}}</text>'
    labels = text.format(9, number(high)) + text.format(height, number(low))
    # The inner svg clips what is outside the range.
    inner = f'<svg width="{width}" height="{height}">{"".join(paths)}</svg>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 80}" height="{height + 4}" '
        f'role="img" aria-label="{escape(" and ".join(lines))}">{frame}{inner}{labels}</svg>'
    )


def number(value: float | None, digits: int = 2) -> str:
    """`-1,234.50`, or in powers of ten if it is very large; `-` for None."""
    if value is None:
        return "-"
    return f"{value:,.{digits}f}" if abs(value) < 1e7 else f"{value:.3g}"


_STROKES = (("currentColor", ""), ("#d55e00", ' stroke-dasharray="5 3"'))
_FRAME = 'fill="none" stroke="currentColor" stroke-opacity=".25"'
_TEXT = 'fill="currentColor" font-size="11" font-family="sans-serif"'


def _cell(column: int) -> str:
    return _CELL if column else _CELL.replace("right", "left")


def _range(lines: Collection[Line]) -> tuple[float, float]:
    """The smallest and the largest value of the later nine tenths of all lines, with a margin."""
    later = [value for line in lines for value in line[len(line) // 10 :]]
    known = [value for value in later if value is not None and math.isfinite(value)] or [0.0]
    margin = 0.05 * (max(known) - min(known)) or 1.0
    return min(known) - margin, max(known) + margin


def _unbroken(places: Sequence[str | None]) -> list[str]:
    """The runs of places without a gap; a single place is doubled, so that it shows as a dot."""
    parts: list[list[str]] = [[]]
    for place in places:
        if place is not None:
            parts[-1].append(place)
        elif parts[-1]:
            parts.append([])
    return [" ".join(part if len(part) > 1 else part * 2) for part in parts if part]
