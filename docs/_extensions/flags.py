"""Tables of flags: `{settings}` shows the fields of a config, `commands.md` every command."""

import os
import re
import warnings
from argparse import Action, ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from itertools import groupby
from typing import Any, NamedTuple, get_args
from unittest.mock import patch

import tyro
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from limner.cli import COMMANDS, main
from limner.commands.data import SUBCOMMANDS
from limner.models import kinds

GROUPS = {"optimizer": "Optimizer", "objective": "Objective", "data": "Data", "model": "Model"}
"""Headings of the flags of `limner train` with these prefixes."""
NOTHING = ("None", "False", "True", "not given", "none")
"""Defaults that the meaning of a flag makes plain."""


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("settings", SettingsTable)
    app.connect("source-read", add_commands)
    return {"parallel_read_safe": True}


class Row(NamedTuple):
    flag: str
    default: str
    meaning: str


def table(rows: Iterable[Row]) -> str:
    """A Markdown table. A narrow page shows the cells of a row one below another."""
    lines = [[f"`{row.flag}`", row.default, row.meaning] for row in rows]
    if not lines:
        return ""
    lines = [["flag", "default", "meaning"], ["---"] * 3, *lines]
    shown = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
    return f"```{{table}}\n:class: settings\n\n{shown}\n```\n"


def _cell(text: str) -> str:
    return _joined(text).replace("|", r"\|")


def _joined(text: str) -> str:
    return " ".join(text.split())


def _with_choices(meaning: str, choices: Iterable[object]) -> str:
    named = [f"`{choice}`" for choice in choices if isinstance(choice, str) and choice != "None"]
    return f"{meaning.removesuffix('.')}: {', '.join(named)}" if named else meaning


# Fields of a config


class SettingsTable(SphinxDirective):
    """The fields of a config as flags: `{settings} limner.DRAWConfig`, `:flags: model`."""

    required_arguments = 1
    option_spec = {"flags": directives.unchanged}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        prefix = f"{self.options['flags']}." if self.options.get("flags") else ""
        return self.parse_text_to_nodes(table(fields(getattr(import_module(module), name), prefix)))


def fields(config: Any, prefix: str) -> Iterator[Row]:
    for field, info in config.model_fields.items():
        if not info.description:  # no flag, or a config with a table of its own
            continue
        meaning = _with_choices(info.description, get_args(info.annotation))
        yield Row(f"--{prefix}{field}".replace("_", "-"), _shown(info.default), meaning)


def _shown(default: object) -> str:
    if default is None or default == ():
        return "none"
    values = default if isinstance(default, tuple) else (default,)
    return f"`{' '.join(map(str, values))}`"


# Commands, from their own parsers


def add_commands(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == "commands":
        source[0] += "\n".join(reference())


def reference() -> Iterator[str]:
    for name, command in COMMANDS.items():
        yield f"\n## {name}\n"
        if name == "train":
            yield from training()
        elif name == "data":
            yield f"{command.summary.capitalize()}.\n"
            for subcommand in SUBCOMMANDS:
                yield f"### {name} {subcommand}\n"
                yield from section(name, subcommand)
        else:
            yield from section(name)


def section(*words: str) -> Iterator[str]:
    found = parser(*words)
    positional = [one for one in actions(found) if not one.option_strings]
    usage = [one.dest.upper() if one.required else f"[{one.dest.upper()}]" for one in positional]
    flags = ["[FLAGS]"] if len(actions(found)) > len(positional) else []
    yield from (f"{_joined(paragraph)}\n" for paragraph in (found.description or "").split("\n\n"))
    yield f"```sh\nlimner {' '.join([*words, *usage, *flags])}\n```\n"
    yield table(map(row, actions(found)))


def training() -> Iterator[str]:
    """Flags that all models share, by their prefix, then those of each model."""
    yield f"{COMMANDS['train'].summary.capitalize()}.\n"
    yield "```sh\nlimner train MODEL [FLAGS]\nlimner train --recipe NAME [FLAGS]\n```\n"
    shared = [one for one in actions(parser("train", kinds()[0])) if _group(one) != "model"]
    for group, found in groupby(sorted(shared, key=_place), key=_group):
        yield f"### {GROUPS.get(group, 'Run')}\n"
        yield table(map(row, found))
    for kind in kinds():
        yield f"### train {kind}\n"
        found = actions(parser("train", kind))
        yield table(row(one) for one in found if _group(one) == "model")


def parser(*words: str) -> ArgumentParser:
    """The parser of `limner WORDS`: the command runs until it would parse its flags."""
    found: list[ArgumentParser] = []

    def one(function: Callable[..., Any], **settings: Any) -> None:
        known = ("prog", "description", "default", "config")
        chosen = {key: settings[key] for key in known if key in settings}
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            found.append(tyro.extras.get_parser(function, **chosen))
        raise SystemExit

    def several(functions: dict[str, Callable[..., Any]], **settings: Any) -> None:
        one(functions[words[1]], **settings)

    with (
        patch("tyro.cli", one),
        patch("tyro.extras.subcommand_cli_from_dict", several),
        patch.dict(os.environ, COLUMNS="1000"),  # descriptions are not broken into lines
        suppress(SystemExit),
    ):
        main([*words, "--help"])
    return found[0]


def actions(found: ArgumentParser) -> list[Action]:
    return [action for action in found._actions if action.dest != "help"]


def row(action: Action) -> Row:
    """tyro writes the default at the end of the help."""
    parts = re.fullmatch(
        r"(.*?)\s*(?:\((?:default: (.*)|required)\))?", action.help or "", re.DOTALL
    )
    assert parts is not None
    meaning, default = parts.groups()
    flag = action.option_strings[0] if action.option_strings else action.dest.upper()
    shown = f"`{default}`" if default and default not in NOTHING else ""
    return Row(flag, shown, _with_choices(meaning, action.choices or ()))


def _group(action: Action) -> str:
    """The part of a flag before its first dot, if it has a heading."""
    group = action.option_strings[0][2:].partition(".")[0]
    return group if group in GROUPS else ""


def _place(action: Action) -> int:
    return ["", *GROUPS].index(_group(action))
