"""`limner train`: one model, from flags, a recipe or a run's own config."""

import argparse
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Annotated, NamedTuple

import tyro

from limner.commands.evaluate import Options, evaluated, show
from limner.commands.flags import parsed
from limner.config import EPOCHS, AnyModelConfig, RunConfig
from limner.errors import InputError
from limner.models import VAEConfig, config_class, kinds
from limner.progress import suggest, waiting
from limner.settings import Hidden, dotted, read_json

OVERVIEW = """Train a model, then evaluate it on the test images:
  limner train MODEL             the models are listed below
  limner train --recipe NAME     limner recipes lists them
  limner train --config FILE     repeat a run from its config.json
  limner train --resume --out DIR

Every setting is a flag, and changes what MODEL, NAME or FILE says. The flags below are those that
all models share; limner train MODEL --help lists those of a model as well.

{kinds}
"""


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
    options: TrainOptions = parsed(
        TrainOptions,
        f"limner train {chosen.words}".strip(),
        chosen.flags,
        about=chosen.about,
        default=TrainOptions(chosen.config),
    )
    with waiting("loading PyTorch"):
        from limner.training import train as train_run
        from limner.training.communication import ProcessLost
        from limner.training.defaults import adapted
        from limner.training.processes import launched_rank
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
        samples, device = run.config.evaluate_samples, run.config.device
        show(run, evaluated(run, Options(num_samples=samples, device=device)))
        suggest("report", run.path)


def _choose(arguments: list[str]) -> Chosen:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument("--config", type=Path)
    named, flags = parser.parse_known_args(arguments)
    kind = flags.pop(0) if flags and not flags[0].startswith("-") else None
    if sum(source is not None for source in (kind, named.recipe, named.config)) > 1:
        raise InputError("Give one of a model, --recipe and --config; flags change the rest.")
    if named.recipe is not None:
        return _of_recipe(named.recipe, flags)
    if named.config is not None:
        return _repeated(named.config, flags)
    helps = bool({"-h", "--help"} & set(flags))
    if "--resume" in flags and not helps:
        return _continued(kind, flags)
    if kind is not None:
        about = (config_class(kind).__doc__ or "").strip().partition("\n")[0]
        config = RunConfig.parse({"model": {"kind": kind}, **_budget(flags)})
        return Chosen(config, flags, kind, about)
    if helps:
        about = OVERVIEW.format(kinds=fill(f"Models: {', '.join(kinds())}.", 78))
        return Chosen(_AnyModel(epochs=EPOCHS), flags, "", about)
    raise InputError(f"Say what to train: {', '.join(kinds())}, --recipe NAME or --config FILE.")


def _of_recipe(name: str, flags: list[str]) -> Chosen:
    from limner.recipes import RECIPES, recipe

    config, preset = recipe(name), RECIPES[name]
    about = f"{preset.about}. Reaches {preset.reached} in {preset.time} on one core."
    own = dotted(config.model_dump()) - {"model.observation"}
    return Chosen(config, flags, f"--recipe {name}", about, frozenset(own))


def _repeated(path: Path, flags: list[str]) -> Chosen:
    """The config in a file, with its images where the run has them."""
    from limner.training.runs import own_images

    config = RunConfig.read(path)
    config = config.with_(data=own_images(path.resolve().parent, config.data))
    own = dotted(read_json(path)) | {"config"}
    return Chosen(config, flags, f"--config {path}", "Repeat a run.", frozenset(own))


def _continued(kind: str | None, flags: list[str]) -> Chosen:
    """The config of the run in --out."""
    with waiting("loading PyTorch"):
        from limner.training.runs import Run

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
