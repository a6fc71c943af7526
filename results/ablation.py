"""What each part that is not in the DRAW paper buys, in nats, at equal training time.

    python -m results.ablation --data DIR --minutes 5

trains DRAW without attention (the recipe `draw`) once a variant, each for the same time and on the
same threads, and writes results/ablation.json and results/ablation.md. It measures on validation
images: parts are chosen here, so the test images are left alone. Variants whose run is there are
kept. Run from the root of the checkout. Times are of the clock: leave the machine alone meanwhile.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import tyro

from limner.config import ObjectiveConfig, RunConfig
from limner.data import frozen, load
from limner.errors import InputError
from limner.objectives import importance_weighted_bound
from limner.recipes import recipe
from limner.report.wording import NOTHING
from limner.settings import Settings
from limner.training import Run, train
from limner.training.storage import write_atomically

RESULTS = Path(__file__).parent
IW_SAMPLES, IW_IMAGES = 10, 1000
PAPER = recipe("draw")
MODEL, OPTIMIZER = PAPER.model, PAPER.optimizer
VARIANTS: dict[str, dict[str, Settings | float]] = {
    "the paper's": {},
    "learned prior": {"model": MODEL.with_(prior="learned")},
    "sticking the landing": {"objective": ObjectiveConfig(gradient="stl")},
    "free bits, 0.5 nats a step": {"objective": ObjectiveConfig(free_bits=0.5)},
    "KL warm-up of one epoch": {"objective": ObjectiveConfig(kl_warmup_epochs=1)},
    "importance-weighted, 5 samples": {"objective": ObjectiveConfig(kind="iwae", num_samples=5)},
    "no averaging of weights": {"ema_decay": 0.0},
    "constant rate": {"optimizer": OPTIMIZER.with_(schedule="constant")},
    "twice the batch": {"batch_size": 128},
    "AdamW, decay 0.1": {"optimizer": OPTIMIZER.with_(name="adamw", weight_decay=0.1)},
}
"""What each variant changes in the paper's recipe."""


def ablate(*, data: Path, minutes: float, out: Path = Path("runs/ablation")) -> None:
    """Train all variants, and write the table.

    Args:
        data: folder of the images
        minutes: training time of each
        out: folder of the runs
    """
    paper = PAPER.with_(epochs=None, minutes=minutes, data=PAPER.data.with_(root=data))
    rows = []
    for name, changes in VARIANTS.items():
        rows.append({"variant": name} | _figures(paper.with_(**changes), out / _slug(name)))
    facts = {"minutes": minutes, "threads": torch.get_num_threads(), "variants": rows}
    write_atomically(RESULTS / "ablation.json", json.dumps(facts, indent=2) + "\n")
    write_atomically(RESULTS / "ablation.md", page(facts))


def _figures(config: RunConfig, folder: Path) -> dict[str, Any]:
    """A finished variant's last validation, its last whole epoch, bound, and what made it."""
    run = Run(folder, config)
    if not run.exported.is_file() or Run.at(folder).config != config:
        run = train(config, folder, overwrite=True)
    metrics = run.metrics()
    whole = [entry["train"]["elbo"] for entry in metrics if entry["epoch"] == int(entry["epoch"])]
    return {
        "elbo": metrics[-1]["validation"]["elbo"],
        "training_elbo": whole[-1] if whole else None,
        "iw_bound": _iw_bound(run),
        "epochs": metrics[-1]["epoch"],
        "made": run.made()[-1].model_dump(),
    }


def _iw_bound(run: Run) -> float:
    """The mean importance-weighted bound of the run's last weights on validation images."""
    x = frozen(load(run.config.data), "validation", run.config.model.observation)[:IW_IMAGES]
    model, noise = run.model("last"), torch.Generator().manual_seed(0)
    return float(importance_weighted_bound(model, x, IW_SAMPLES, generator=noise).mean())


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def page(facts: dict[str, Any]) -> str:
    """results/ablation.md."""
    rows = facts["variants"]
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
    table = "\n".join([_HEAD, *lines])
    return (
        "# What each part buys\n\n"
        "Written by `python -m results.ablation`; not edited by hand. The recipe `draw` with one "
        f"thing changed at a time, {facts['minutes']:g} minutes of training each on "
        f"{'; '.join(makers)}, seed 0. -ELBO in nats on the 10,000 validation images; gain is over "
        f"the paper's, higher is better; -L_{IW_SAMPLES} is of the first {IW_IMAGES:,} of them. "
        "One seed each: a few tenths of a nat are chance, and what pays in "
        f"{facts['minutes']:g} minutes need not pay in hours.\n\n{table}\n"
    )


def _nats(elbo: float | None) -> str:
    return NOTHING if elbo is None else f"{-elbo:.2f}"


def _gain(elbo: float | None, base: float | None) -> str:
    return NOTHING if elbo is None or base is None else f"{elbo - base:+.2f}"


_HEAD = f"""| variant | −ELBO | last whole epoch of training | gain | −L_{IW_SAMPLES} | epochs |
| --- | --- | --- | --- | --- | --- |"""


if __name__ == "__main__":
    try:
        tyro.cli(ablate, prog="python -m results.ablation")
    except InputError as error:
        sys.exit(f"ablation: {error}")
