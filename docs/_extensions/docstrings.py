"""Docstrings are plain text with `code` and indented equations, which reStructuredText is not."""

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

attributes: dict[str, list[str]] = {}


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
    app.connect("autodoc-process-docstring", whole_attribute, priority=600)
    return {"parallel_read_safe": True}


def plain_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()
    lines[:] = _literal_blocks(map(_escaped, lines))
    if what == "attribute":
        attributes[name] = [*lines]


def whole_attribute(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """What napoleon, at priority 500, takes for a type is what stands before a colon."""
    if name in attributes:
        lines[:] = attributes.pop(name)


def _escaped(line: str) -> str:
    """`code` as code, and the rest without markup."""
    plain, code = line.split("`")[::2], line.split("`")[1::2]
    plain = [
        re.sub(r"([*|\\]|(?<=\w)_(?!\w)|(?<=\b\w)\.(?=\s|$))", r"\\\1", part) for part in plain
    ]
    return "".join(a + (f"``{b}``" if b else "") for a, b in zip(plain, [*code, ""], strict=True))


def _literal_blocks(lines: Iterator[str]) -> Iterator[str]:
    """Lines indented by four after an empty one, outside of sections, are shown as they are."""
    blank, inside, section = True, False, False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line and indent == 0:
            inside, section = False, bool(re.fullmatch(r"(Args|Raises|Returns):", line))
        elif line and blank and indent >= 4 and not inside and not section:
            inside = True
            yield from ("::", "")
        yield re.sub(r"\\(.)|``", r"\1", line) if inside else line
        blank = not line
