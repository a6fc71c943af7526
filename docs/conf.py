"""How the site is made: Sphinx, Markdown by MyST, the theme furo. Nothing is fetched by a reader.

Mathematics becomes MathML, which browsers draw themselves. Code is taken from the source when the
site is built, and notebooks run then, so that a page cannot lag behind it. A build without running
them: `-D nb_execution_mode=off`.
"""

import os
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Literal, get_args

from docutils import nodes
from docutils.parsers.rst import directives
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import limner

project = "Limner"
copyright = "the authors of Limner"
version = release = limner.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the kernels, whose models are small
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autodoc_type_aliases = {"Generator": "Generator", "Observation": "Observation"}
python_maximum_signature_line_length = 88
add_module_names = False
highlight_language = "none"

html_theme = "furo"
html_title = f"Limner {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer(
        "mathml", inline_renderers=(inline_math, None), block_renderers=(display_math, None)
    )
    app.add_directive("settings", SettingsTable)
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
    app.connect("autodoc-process-docstring", whole_attribute, priority=600)
    return {"parallel_read_safe": True}


# Mathematics


def mathml(text: str, display: Literal["inline", "block"] = "inline") -> str:
    """TeX as MathML, with the space after a function's name that the converter leaves out."""
    return convert(re.sub(r"\\(log|exp) (?=[\w\\])", r"\\\1\\, ", text), display=display)


def inline_math(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def display_math(writer: Any, node: nodes.math_block) -> None:
    r"""An equation, and at the right the number that \tag{...} gives it."""
    text = node.astext()
    number = re.search(r"\\tag\{(.*?)\}", text)
    shown = mathml(re.sub(r"\\tag\{.*?\}", "", text).strip(), display="block")
    label = f'<span class="number">({number[1]})</span>' if number else ""
    writer.body.append(f'<div class="equation">{shown}{label}</div>\n')
    raise nodes.SkipNode


# Docstrings are plain text with `code` and indented equations, which reStructuredText is not.

attributes: dict[str, list[str]] = {}


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


# Tables of settings


class SettingsTable(SphinxDirective):
    """The fields of a config as flags: `{settings} limner.DRAWConfig`, `:flags: model`."""

    required_arguments = 1
    option_spec = {"flags": directives.unchanged}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        prefix = f"{self.options['flags']}." if self.options.get("flags") else ""
        rows = ["| flag | default | meaning |", "| --- | --- | --- |"]
        for field, info in getattr(import_module(module), name).model_fields.items():
            if not info.description:  # no flag, or a config with a table of its own
                continue
            choices = [c for c in get_args(info.annotation) if isinstance(c, str)]
            meaning = info.description
            if choices:
                meaning += ": " + ", ".join(f"`{choice}`" for choice in choices)
            flag = (prefix + field).replace("_", "-")
            rows.append(f"| `--{flag}` | {_shown(info.default)} | {meaning} |")
        return self.parse_text_to_nodes("\n".join(rows))


def _shown(default: object) -> str:
    if default is None or default == ():
        return "none"
    values = default if isinstance(default, tuple) else (default,)
    return f"`{' '.join(map(str, values))}`"
