"""The leaderboard of time to quality, results/speedrun.md, from run folders.

    python -m tools.speedrun RUNS

RUNS holds folders IDEA/SEED, each a run of `limner train`. Of each idea the table has the settings
that differ from those of the recipe, and for each quality the minutes of training until the -ELBO
of the validation images first reached it: the mean over seeds, and the range. A quality that not
every seed reached is left out. Each processor has a table.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Annotated, NamedTuple

import tyro

from limner.errors import InputError
from limner.recipes import recipe
from limner.storage import write_atomically
from limner.training.resuming import differing
from limner.training.runs import Run

QUALITIES = (95, 90, 87, 85, 83)
"""-ELBO in nats."""
REFERENCE = "draw-attention-learned-prior"
OUT = Path(__file__).parents[1] / "results" / "speedrun.md"
NEITHER_IDEA_NOR_QUALITY = frozenset({"seed", "data.root", "evaluate_samples", "trackers"})
HEAD = f"""# Time to quality

Written by `python -m tools.speedrun`; do not edit it. Minutes of training until the -ELBO of the
10,000 validation images of MNIST, dynamically binarized, first reached a value in nats: the mean
over seeds, and the range. Validation is part of the time. Settings are those that differ from
`--recipe {REFERENCE}`. Times of one table were taken on one machine, in the same hours.
"""


class Trained(NamedTuple):
    """One seed of an idea."""

    idea: str
    settings: str
    machine: str
    commit: str
    seed: int
    minutes: dict[int, float]
    """By quality, if it was reached."""


def speedrun(
    folder: Annotated[Path, tyro.conf.Positional], /, *, reference: str = REFERENCE, out: Path = OUT
) -> None:
    """Write the leaderboard.

    Args:
        folder: holds IDEA/SEED, run folders
        reference: the recipe with which settings are compared
        out: the page
    """
    runs = [_trained(path.parent, reference) for path in sorted(folder.glob("*/*/config.json"))]
    if not runs:
        raise InputError(f"{folder} holds no runs IDEA/SEED.")
    write_atomically(out, HEAD + "".join(_tables(runs)))
    print(f"written to {out}")


def _trained(path: Path, reference: str) -> Trained:
    run = Run.at(path)
    changed = differing(recipe(reference), run.config)
    settings = [
        f"{name} {value}" for name, value in changed.items() if name not in NEITHER_IDEA_NOR_QUALITY
    ]
    makers = run.made()
    threads, hardware, commit = makers[-1].threads, makers[-1].hardware, makers[-1].commit
    machine = f"{hardware}, {threads} thread{'s' * (threads > 1)}, torch {makers[-1].torch}"
    reached: dict[int, float] = {}
    for entry in run.metrics():
        bound = entry["validation"]["elbo"]
        for nats in QUALITIES:
            if bound is not None and -bound <= nats:
                reached.setdefault(nats, entry["seconds"] / 60)
    shown = "; ".join(settings) or "the recipe"
    return Trained(path.parent.name, shown, machine, commit or "", run.config.seed, reached)


def _tables(runs: Sequence[Trained]) -> Iterator[str]:
    for machine, here in groupby(
        sorted(runs, key=lambda run: run.machine), lambda run: run.machine
    ):
        yield f"\n## {machine}\n\n"
        titles = ("idea", "settings", "seeds", *(f"{nats} nats" for nats in QUALITIES), "commit")
        yield _line(titles) + _line(["---"] * len(titles))
        for idea, seeds in groupby(here, lambda run: run.idea):
            yield _line(_row(idea, list(seeds)))


def _row(idea: str, seeds: Sequence[Trained]) -> list[str]:
    cells = []
    for nats in QUALITIES:
        minutes = [run.minutes[nats] for run in seeds if nats in run.minutes]
        spread = f" ({min(minutes):.1f} to {max(minutes):.1f})" if len(minutes) > 1 else ""
        all_reached = len(minutes) == len(seeds)
        cells.append(f"{mean(minutes):.1f}{spread}" if all_reached else "–")
    commits = ", ".join(sorted({run.commit for run in seeds}))
    return [idea, seeds[0].settings, ", ".join(str(run.seed) for run in seeds), *cells, commits]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    tyro.cli(speedrun)
