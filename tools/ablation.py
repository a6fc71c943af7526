"""What each part that is not in the DRAW paper gains, in nats, at equal training time.

    python -m tools.ablation --data DIR --minutes 5

trains every variant of every group for the same time on the same threads, and writes
results/ablation.json and results/ablation.md. It uses validation images, because it serves to
choose parts. Finished runs are kept. `--groups` trains some groups and keeps the results of the
others. Run it from the root of the checkout. Time is wall-clock time, so nothing else should use
the cores.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import tyro
from torch import nn

from limner.config import ObjectiveConfig, RunConfig
from limner.data import frozen, load
from limner.errors import InputError
from limner.layers.reading import FilterbankWindows
from limner.objectives import importance_weighted_bound
from limner.recipes import STUDY, recipe
from limner.report.wording import NOTHING
from limner.settings import Settings
from limner.storage import write_atomically
from limner.training import Run, train
from limner.training.start import ancestry

RESULTS = Path(__file__).parents[1] / "results"
IW_SAMPLES, IW_IMAGES = 10, 1000
PAPER = recipe("draw")
MODEL, OPTIMIZER = PAPER.model, PAPER.optimizer
ATTENTIVE = PAPER.with_(model=STUDY["DRAW with attention"].model)
IMPORTANCE = ObjectiveConfig(kind="iwae", num_samples=5)

Changes = dict[str, Settings | float]


class Variant(NamedTuple):
    """Changes to the recipe of its group."""

    changes: Changes
    last: Changes | None = None
    """Changes for the last fifth of the time, a training that starts from the first part."""
    plain_windows: bool = False
    """Whether windows are initialized like any linear layer in torch."""


class Group(NamedTuple):
    """Variants, of which the first is the baseline."""

    about: str
    base: RunConfig
    variants: dict[str, Variant]


GROUPS = {
    "parts": Group(
        "The recipe `draw`, T = 10 without attention, with one thing changed at a time",
        PAPER,
        {
            "the paper's": Variant({}),
            "learned prior": Variant({"model": MODEL.with_(prior="learned")}),
            "sticking the landing": Variant({"objective": ObjectiveConfig(gradient="stl")}),
            "free bits, 0.5 nats a step": Variant({"objective": ObjectiveConfig(free_bits=0.5)}),
            "KL warm-up of one epoch": Variant({"objective": ObjectiveConfig(kl_warmup_epochs=1)}),
            "importance-weighted, 5 samples": Variant({"objective": IMPORTANCE}),
            "no averaging of weights": Variant({"ema_decay": 0.0}),
            "constant rate": Variant({"optimizer": OPTIMIZER.with_(schedule="constant")}),
            "twice the batch": Variant({"batch_size": 128}),
            "AdamW, decay 0.1": Variant(
                {"optimizer": OPTIMIZER.with_(name="adamw", weight_decay=0.1)}
            ),
        },
    ),
    "fine-tuning": Group(
        "The recipe `draw`, its last fifth with the importance-weighted bound of 5 samples",
        PAPER,
        {
            "the paper's": Variant({}),
            "importance-weighted at the end": Variant(
                {}, {"objective": IMPORTANCE, "optimizer": OPTIMIZER.with_(learning_rate=3e-4)}
            ),
        },
    ),
    "windows": Group(
        "The study's DRAW with attention, T = 16, batch 64, and how its windows start",
        ATTENTIVE,
        {
            "over the whole image": Variant({}),
            "as torch starts any layer": Variant({}, plain_windows=True),
        },
    ),
}


def ablate(
    *,
    data: Path,
    minutes: float,
    groups: tuple[str, ...] = tuple(GROUPS),
    out: Path = Path("runs/ablation"),
    home: Path = RESULTS,
) -> None:
    """Train all variants, and write the tables.

    Args:
        data: folder of the images
        minutes: training time of each
        groups: groups to train
        out: folder of the runs
        home: folder of ablation.json and ablation.md
    """
    measure(GROUPS, groups, data, minutes, out, home)


def measure(
    known: Mapping[str, Group],
    chosen: Sequence[str],
    data: Path | None,
    minutes: float,
    out: Path,
    home: Path,
) -> None:
    """Train the variants of the `chosen` groups, and write the tables of all that are `known`."""
    if unknown := set(chosen) - set(known):
        raise InputError(f"There is no group {unknown.pop()}; choose from {', '.join(known)}.")
    trained = {}
    for key in chosen:
        _, base, variants = known[key]
        base = base.with_(epochs=None, minutes=minutes, data=base.data.with_(root=data))
        rows = [
            {"variant": name} | _figures(_trained(base, variant, out / key / _slug(name)))
            for name, variant in variants.items()
        ]
        trained[key] = {"minutes": minutes, "threads": torch.get_num_threads(), "variants": rows}
    document = home / "ablation.json"
    written = json.loads(document.read_text())["groups"] if document.is_file() else {}
    written |= trained
    facts = {"groups": {key: written[key] for key in known if key in written}}
    write_atomically(document, json.dumps(facts, indent=2) + "\n")
    write_atomically(home / "ablation.md", page(known, facts))


def _trained(base: RunConfig, variant: Variant, folder: Path) -> Run:
    """The finished run of a variant; of two parts, the last."""
    config = base.with_(**variant.changes)
    if variant.last is None or config.minutes is None:
        return _finished(config, folder, variant)
    first = _finished(config.with_(minutes=0.8 * config.minutes), folder, variant)
    config = config.with_(minutes=0.2 * config.minutes, start_from=str(first.path), **variant.last)
    return _finished(config, folder.with_name(f"{folder.name}-last"), variant, first)


def _finished(config: RunConfig, folder: Path, variant: Variant, after: Run | None = None) -> Run:
    """The run of `config`, trained unless it is finished, and after the one that it follows."""
    run = Run(folder, config)
    if run.exported.is_file() and Run.at(folder).config == config:
        finished = run.exported.stat().st_mtime
        if after is None or after.exported.stat().st_mtime < finished:
            return run
    with _plain_windows() if variant.plain_windows else nullcontext():
        return train(config, folder, overwrite=True)


def _plain_windows() -> AbstractContextManager[object]:
    """A context in which windows are initialized like any linear layer in torch."""

    def init_heads(reader: FilterbankWindows, heads: nn.Linear, write_scale: float) -> None:
        heads.weight.data[: reader.patch_dim].mul_(write_scale)

    return patch.object(FilterbankWindows, "init_heads", init_heads)


def _figures(run: Run) -> dict[str, Any]:
    """A finished run's last validation, its last whole epoch, bound, and what made it."""
    metrics = run.metrics()
    whole = [entry["train"]["elbo"] for entry in metrics if entry["epoch"] == int(entry["epoch"])]
    return {
        "elbo": metrics[-1]["validation"]["elbo"],
        "training_elbo": whole[-1] if whole else None,
        "iw_bound": _iw_bound(run),
        "epochs": sum(each.metrics()[-1]["epoch"] for each in ancestry(run)),
        "made": run.made()[-1].model_dump(),
    }


def _iw_bound(run: Run) -> float:
    """The mean importance-weighted bound of the run's last weights on validation images."""
    x = frozen(load(run.config.data), "validation", run.config.model.observation)[:IW_IMAGES]
    model, noise = run.model("last"), torch.Generator().manual_seed(0)
    return float(importance_weighted_bound(model, x, IW_SAMPLES, generator=noise).mean())


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def page(known: Mapping[str, Group], facts: dict[str, Any]) -> str:
    """results/ablation.md."""
    tables = [_table(known[key], found) for key, found in facts["groups"].items()]
    return (
        "# What each part gains\n\n"
        "Written by `python -m tools.ablation`; do not edit it. -ELBO in nats on the 10,000 "
        "validation images; gain is relative to the first row of a table, higher is better; "
        f"-L_{IW_SAMPLES} is of the first {IW_IMAGES:,} of them. One seed each: a few tenths of a "
        "nat are chance, and a gain after minutes may vanish after hours.\n\n" + "\n".join(tables)
    )


def _table(group: Group, found: dict[str, Any]) -> str:
    rows = found["variants"]
    base = rows[0]["elbo"]
    makers = {
        f"{made['threads']} thread(s) of {made['hardware']}, torch {made['torch']}, commit "
        f"{made['commit']}": None
        for made in (row["made"] for row in rows)
    }
    lines = [
        f"| {row['variant']} | {_nats(row['elbo'])} | {_nats(row['training_elbo'])} | "
        f"{_gain(row['elbo'], base)} | {_nats(row['iw_bound'])} | {row['epochs']:.1f} |"
        for row in rows
    ]
    return "\n".join(
        [
            f"{group.about}. {found['minutes']:g} minutes of training each on "
            f"{'; '.join(makers)}, seed 0.\n",
            _HEAD,
            *lines,
            "",
        ]
    )


def _nats(elbo: float | None) -> str:
    return NOTHING if elbo is None else f"{-elbo:.2f}"


def _gain(elbo: float | None, base: float | None) -> str:
    return NOTHING if elbo is None or base is None else f"{elbo - base:+.2f}"


_HEAD = f"""| variant | -ELBO | last whole epoch of training | gain | -L_{IW_SAMPLES} | epochs |
| --- | --- | --- | --- | --- | --- |"""


if __name__ == "__main__":
    try:
        tyro.cli(ablate, prog="python -m tools.ablation")
    except InputError as error:
        sys.exit(f"ablation: {error}")
