"""`limner recipes`: what `limner train --recipe NAME` can train, and what it reaches."""

import json
import shlex
from collections.abc import Iterator
from textwrap import fill
from typing import Annotated

import tyro

from limner.config import EPOCHS, RunConfig
from limner.errors import unknown
from limner.models import config_from
from limner.progress import suggest
from limner.recipes import RECIPES
from limner.settings import flat

Name = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]


def recipes(name: Name = None, /) -> None:
    """List the recipes of `limner train`, or show the whole of one.

    Args:
        name: the recipe to show whole
    """
    if name is None:
        _list()
        suggest("recipes", next(iter(RECIPES)))
        return
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    recipe = RECIPES[name]
    lines = {"": f"{name}: {recipe.about}", "reaches": recipe.reached, "time": recipe.time}
    for heading, text in (lines | {"note": recipe.note} if recipe.note else lines).items():
        start, margin = (f"{heading:<9}", " " * 9) if heading else ("", "")
        print(fill(text, 80, initial_indent=start, subsequent_indent=margin))
    print(f"\nlimner train {recipe.config.model.kind} \\")
    print(" \\\n".join(f"  {flag}" for flag in _flags(recipe.config)))
    suggest("train --recipe", name)


def _list() -> None:
    print(f"{'name':<33}{'model':<12}{'test, nats per image':<25}time")
    for name, recipe in RECIPES.items():
        reached = recipe.reached.partition(", -")[0]
        print(f"{name:<33}{recipe.config.model.kind:<12}{reached:<25}{recipe.time}")
        print(f"  {recipe.about}")
    print("\nLower is better. Times on one core of a CPU; + comes after the starting model.")


def _flags(config: RunConfig) -> Iterator[str]:
    """The settings that differ from the defaults of `limner train`, as flags."""
    usual = flat(
        RunConfig(model=config_from({"kind": config.model.kind}), epochs=EPOCHS).model_dump()
    )
    for name, value in flat(config.model_dump()).items():
        if value != usual.get(name) and value is not None:
            values = value if isinstance(value, tuple | list) else [value]
            words = " ".join(shlex.quote(json.dumps(one).strip('"')) for one in values)
            yield f"--{name.replace('_', '-')} {words}"
