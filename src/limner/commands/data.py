"""`limner data`: list the datasets, download one, show what one has, or look after the cache."""

import importlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import tyro

from limner.commands.flags import bound
from limner.commands.show import show
from limner.data import CATALOGUE
from limner.data.config import in_words
from limner.errors import InputError, printable, unknown
from limner.progress import suggest, waiting

if TYPE_CHECKING:
    from limner.data.cache import Listed

Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
Names = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAMES")]


def list_datasets() -> None:
    """List the datasets, what each needs and its default binarization."""
    for entry in CATALOGUE:
        about = f"{entry.description}; {in_words(entry.binarization)}; needs {entry.needs}"
        name, margin = f"{entry.name:<15}", " " * 15
        print(fill(about, 80, initial_indent=name, subsequent_indent=margin))
    suggest("data show", CATALOGUE[0].name)


def get(name: Name, /, *, root: Path | None = None) -> None:
    """Download a dataset's files to the cache, or check those in a folder.

    Args:
        name: a name from `limner data list`.
        root: folder of the files; missing files are downloaded into it.
    """
    from limner.data import fetch

    for path in fetch(name, root):
        print(path)
    suggest("data show", name)


def cache(
    name: Names = (),
    /,
    *,
    clear: bool = False,
) -> None:
    """List the images that are kept decoded, or remove them.

    Removed images are decoded again when needed.

    Args:
        name: entries or their sources, as listed; all if none is named.
        clear: remove them, except those that a process uses.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from limner.data import cache as pixels

    pixels.sweep()
    chosen = _entries(name)
    if not clear:
        table = Table("name", "source", "images", "size", "last used")
        for entry in chosen:
            images = " x ".join(map(str, entry.shape))
            used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
            table.add_row(
                entry.key[:8], Text(printable(entry.source)), images, _size(entry.size), used
            )
        Console().print(table)
        print(f"{_size(sum(entry.size for entry in chosen))} in {pixels.folder()}")
        return
    for entry in chosen:
        done = pixels.remove(entry.key)
        what = f"{entry.key[:8]}, {_size(entry.size)} of {printable(entry.source)}"
        print(f"Removed {what}." if done else f"Kept {what}: a process uses it.")


def _entries(names: tuple[str, ...]) -> "list[Listed]":
    """The entries of the cache with these names or sources; all if there are no names."""
    from limner.data import cache as pixels

    known = pixels.entries()
    for name in names:
        if not any(_is_named(entry, name) for entry in known):
            raise InputError(
                f"There is no entry {name!r} in {pixels.folder()}; limner data cache lists them."
            )
    return [e for e in known if not names or any(_is_named(e, name) for name in names)]


def _is_named(entry: "Listed", name: str) -> bool:
    return entry.source == name or (len(name) >= 4 and entry.key.startswith(name))


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


SUBCOMMANDS: dict[str, Callable[..., None]] = {
    "list": list_datasets,
    "get": get,
    "show": show,
    "cache": cache,
}
SLOW = {"get": "data.catalogue", "show": "figures.contact", "cache": "data.cache"}
"""Modules, slow to import, that subcommands need once their flags are parsed."""


def data(arguments: list[str]) -> None:
    """List the datasets, download one, show what one has, or look after the cache."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return
    if name not in SUBCOMMANDS:
        raise unknown("command", f"data {name}", [f"data {known}" for known in SUBCOMMANDS])
    command = bound(SUBCOMMANDS[name], f"limner data {name}", rest)
    if module := SLOW.get(name):
        with waiting("loading PyTorch"):
            importlib.import_module(f"limner.{module}")
    command()


def _help() -> str:
    width = max(map(len, SUBCOMMANDS)) + 2
    summaries = {
        name: (function.__doc__ or "").partition("\n")[0] for name, function in SUBCOMMANDS.items()
    }
    lines = [f"  {name:<{width}}{summary}" for name, summary in summaries.items()]
    return "\n".join(["usage: limner data COMMAND [OPTIONS]", "", *lines])
