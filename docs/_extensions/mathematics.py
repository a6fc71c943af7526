"""Equations as MathML, which browsers draw themselves: no script, no font and no network."""

import re
from typing import Any, Literal

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer(
        "mathml", inline_renderers=(inline, None), block_renderers=(display, None)
    )
    return {"parallel_read_safe": True}


def mathml(text: str, shown: Literal["inline", "block"] = "inline") -> str:
    """TeX as MathML, with the space after a function's name that the converter leaves out."""
    return convert(re.sub(r"\\(log|exp) (?=[\w\\])", r"\\\1\\, ", text), display=shown)


def inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def parts(equation: str) -> list[str]:
    r"""The parts of an equation that \quad and \qquad separate."""
    return re.split(r"\\q?quad\b", equation)


def display(writer: Any, node: nodes.math_block) -> None:
    r"""An equation, and at the right the number that \tag{...} gives it.

    A narrow page shows one part per line.
    """
    text = node.astext()
    number = re.search(r"\\tag\{(.*?)\}", text)
    untagged = re.sub(r"\\tag\{.*?\}", "", text)
    spaces = [*re.findall(r"\\(qquad|quad)\b", untagged), "quad"]
    shown = "".join(
        f'<span class="{space}">{mathml(part.strip(), shown="block")}</span>'
        for part, space in zip(parts(untagged), spaces, strict=True)
    )
    label = f'<span class="number">({number[1]})</span>' if number else ""
    writer.body.append(f'<div class="equation"><div class="parts">{shown}</div>{label}</div>\n')
    raise nodes.SkipNode
