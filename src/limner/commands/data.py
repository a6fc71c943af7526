"""`limner data`: list the datasets, download one, or show what one has."""

from collections.abc import Callable
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from limner.commands.show import show
from limner.data import CATALOGUE, fetch


def list_datasets() -> None:
    """List the datasets, what each needs and its default binarization."""
    table = Table("name", "images", "binarization", "needs")
    for entry in CATALOGUE:
        table.add_row(entry.name, entry.description, entry.binarization or "", entry.needs)
    Console().print(table)


def get(name: tyro.conf.Positional[str], /, *, root: Path | None = None) -> None:
    """Download a dataset's files to the cache, or check the files in a folder.

    Args:
        name: a name from `limner data list`.
        root: folder of the files; missing files are downloaded into it.
    """
    for path in fetch(name, root):
        print(path)


SUBCOMMANDS: dict[str, Callable[..., None]] = {
    "list": list_datasets,
    "get": get,
    "show": show,
}


def data(arguments: list[str]) -> None:
    """List the datasets, download one, or show what one has."""
    tyro.extras.subcommand_cli_from_dict(
        SUBCOMMANDS,
        prog="limner data",
        args=arguments or ["--help"],
        config=(tyro.conf.FlagCreatePairsOff,),
    )
