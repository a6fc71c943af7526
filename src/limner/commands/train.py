"""`limner train`: one model, from flags, a recipe or a run's own config."""

import argparse
import re
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import fill, indent
from typing import Annotated, NamedTuple

import tyro

from limner.commands.evaluate import Options, evaluate
from limner.config import AnyModelConfig, RunConfig
from limner.errors import InputError
from limner.models import VAEConfig, kinds, model_class
from limner.recipes import RECIPES, recipe
from limner.settings import Hidden, dotted, read_json
from limner.training import Run
from limner.training import train as train_run
from limner.training.communication import ProcessLost
from limner.training.defaults import EPOCHS, adapted
from limner.training.processes import launched_rank
from limner.training.runs import own_images


@dataclass
class TrainOptions:
    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    """The flags of the model are those of the default's own class."""
    out: Path = Path("runs/latest")
    """the run folder"""
    resume: bool = False
    """continue the run in the folder; flags may change its budget and where it is computed"""
    overwrite: bool = False
    """replace the run in the folder"""


class Chosen(NamedTuple):
    """What the command line names: a config, and the flags that change it."""

    config: RunConfig
    flags: list[str]
    words: str
    """The part of the command that names the config."""
    about: str
    given: frozenset[str] = frozenset()
    """Dotted names of the settings that were chosen on purpose; the rest may follow the images."""


class _AnyModel(RunConfig):
    """A run without a model: its flags are the ones that all models share."""

    model: Annotated[AnyModelConfig, Hidden] = VAEConfig()


def train(arguments: list[str]) -> None:
    """Train a model, then evaluate it on the test images."""
    chosen = _choose(arguments)
    try:
        options = tyro.cli(
            TrainOptions,
            prog=f"limner train {chosen.words}".strip(),
            description=chosen.about,
            args=chosen.flags,
            default=TrainOptions(chosen.config),
            config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
        )
    except InputError as error:
        raise InputError(_with_flag(str(error))) from None
    try:
        run = train_run(
            options.config,
            options.out,
            options.resume,
            options.overwrite,
            adapt=partial(adapted, given=chosen.given | _named(chosen.flags)),
        )
    except ProcessLost:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's; this process ends by itself
        raise
    if launched_rank() == 0:
        options = Options(num_samples=run.config.evaluate_samples, device=run.config.device)
        evaluate(str(run.path), options)


def _choose(arguments: list[str]) -> Chosen:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument("--config", type=Path)
    named, flags = parser.parse_known_args(arguments)
    kind = flags.pop(0) if flags and not flags[0].startswith("-") else None
    if sum(source is not None for source in (kind, named.recipe, named.config)) > 1:
        raise InputError("Give one of a model, --recipe and --config; flags change the rest.")
    if named.recipe is not None:
        config, preset = recipe(named.recipe), RECIPES[named.recipe]
        about = f"{preset.about}. {preset.expected}."
        own = frozenset(dotted(config.model_dump())) - {"model.observation"}
        return Chosen(config, flags, f"--recipe {named.recipe}", about, own)
    if named.config is not None:
        config = RunConfig.read(named.config)
        config = config.with_(data=own_images(named.config.resolve().parent, config.data))
        own = frozenset(dotted(read_json(named.config))) | {"config"}
        return Chosen(config, flags, f"--config {named.config}", "Repeat a run.", own)
    if "--resume" in flags and not {"-h", "--help"} & set(flags):
        return _continued(kind, flags)
    if kind is not None:
        about = (model_class(kind).__doc__ or "").strip().partition("\n")[0]
        config = RunConfig.parse({"model": {"kind": kind}, **_budget(flags)})
        return Chosen(config, flags, kind, about)
    if {"-h", "--help"} & set(flags):
        return Chosen(_AnyModel(epochs=EPOCHS), flags, "", _overview())
    raise InputError(f"Say what to train: {', '.join(kinds())}, --recipe NAME or --config FILE.")


def _continued(kind: str | None, flags: list[str]) -> Chosen:
    """The config of the run in --out."""
    out = _out(flags)
    config = Run.at(out).config
    if kind not in (None, config.model.kind):
        raise InputError(f"The run in {out} is a {config.model.kind}; leave out {kind}.")
    return Chosen(config, flags, "", "Continue a run.")


def _budget(flags: list[str]) -> dict[str, float]:
    """One minute as the default if the flags give minutes, and so no epochs."""
    minutes = any(flag.partition("=")[0] == "--minutes" for flag in flags)
    return {"minutes": 1.0} if minutes else {"epochs": EPOCHS}


def _named(flags: list[str]) -> set[str]:
    """Dotted names of the settings that flags give: --data.draw-seed=1 is data.draw_seed."""
    return {flag[2:].partition("=")[0].replace("-", "_") for flag in flags if flag[:2] == "--"}


def _out(flags: list[str]) -> Path:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=TrainOptions.out)
    return parser.parse_known_args(flags)[0].out


def _overview() -> str:
    names = indent(fill(", ".join(RECIPES), 78, break_on_hyphens=False), "  ")
    return f"""Train a model, then evaluate it on the test images.

  limner train MODEL             MODEL is one of {", ".join(kinds())}
  limner train --recipe NAME     NAME is one of the recipes below
  limner train --config FILE     repeat a run from its config.json
  limner train --resume --out DIR

Every setting is a flag, and changes what MODEL, NAME or FILE says. The flags below are those that
all models share; limner train MODEL --help lists the model's own as well, and
limner train --recipe NAME --help says what the recipe reaches. Recipes:

{names}
"""


def _with_flag(sentence: str) -> str:
    """The sentence of an error with a setting of the run named by its flag."""
    return re.sub(r"^RunConfig\.(\w+)", lambda found: f"--{found[1].replace('_', '-')}", sentence)
