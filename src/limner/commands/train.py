"""`limner train`: one model, from flags, a recipe or a run's own config."""

import argparse
import signal
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Annotated

import tyro

from limner.commands.evaluate import evaluate
from limner.config import RunConfig
from limner.errors import InputError
from limner.models import MODELS
from limner.recipes import RECIPES, Recipe, recipe
from limner.training import Run
from limner.training import train as train_run
from limner.training.processes import ProcessLost, launched_rank

EPOCHS = 20
"""Passes over the images where neither epochs nor minutes are given."""


def _listed(name: str, preset: Recipe) -> str:
    """A recipe with what it is and what to expect, in lines of 80 characters."""
    told = f"{preset.about}. {preset.expected}."
    return "\n".join(
        [f"  {name}", *wrap(told, 80, initial_indent=8 * " ", subsequent_indent=8 * " ")]
    )


DESCRIPTION = f"""Train a model, then evaluate it on the test images.

  limner train MODEL             MODEL is one of {", ".join(MODELS)}
  limner train --recipe NAME     NAME is one of those below
  limner train --config FILE     repeat a run from its config.json
  limner train --resume --out DIR

Every setting is a flag: a flag changes what MODEL, NAME or FILE says. Recipes:

{chr(10).join(_listed(name, preset) for name, preset in RECIPES.items())}
"""


@dataclass
class TrainOptions:
    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    out: Path = Path("runs/latest")
    """the run folder"""
    resume: bool = False
    """continue the run in the folder, with its own config"""
    overwrite: bool = False
    """replace the run in the folder"""


def train(arguments: list[str]) -> None:
    """Train a model, then evaluate it on the test images."""
    preset, flags = _preset(arguments)
    options = tyro.cli(
        TrainOptions,
        prog="limner train",
        description=DESCRIPTION,
        args=flags,
        default=TrainOptions(preset),
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
    )
    try:
        run = train_run(options.config, options.out, options.resume, options.overwrite)
    except ProcessLost:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's; this process ends by itself
        raise
    if launched_rank() == 0:
        evaluate(str(run.path), num_samples=run.config.evaluate_samples, device=run.config.device)


def _preset(arguments: list[str]) -> tuple[RunConfig, list[str]]:
    """The config that flags change, and the flags without what chose it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument("--config", type=Path)
    chosen, flags = parser.parse_known_args(arguments)
    model = flags.pop(0) if flags and not flags[0].startswith("-") else None
    sources = [s for s in (model, chosen.recipe, chosen.config) if s is not None]
    if len(sources) > 1:
        raise InputError("Give one of a model, --recipe and --config; flags change the rest.")
    if chosen.recipe is not None:
        return recipe(chosen.recipe), flags
    if chosen.config is not None:
        return RunConfig.read(chosen.config), flags
    if model is None and "--resume" in flags:
        return Run.at(_out(flags)).config, flags
    if model is None and not {"-h", "--help"} & set(flags):
        raise InputError(f"Say what to train: {', '.join(MODELS)}, --recipe NAME or --config FILE.")
    if model is not None and model not in MODELS:
        raise InputError(f"There is no model {model!r}; choose one of {', '.join(MODELS)}.")
    named = {flag.partition("=")[0] for flag in flags}
    budget = {"minutes": 1.0} if "--minutes" in named else {"epochs": EPOCHS}
    return RunConfig.parse({"model": {"kind": model or "draw"}, **budget}), flags


def _out(flags: list[str]) -> Path:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=TrainOptions.out)
    return parser.parse_known_args(flags)[0].out
