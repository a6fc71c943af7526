"""Put a finished study into the repository.

    python -m tools.study runs/studies/depth --command "limner study depth"

writes results/NAME, NAME being that of the folder: the study's table and figures, and README.md
with what results/NAME/learned.md says of them. Run it from the root of the checkout, again after
every change of learned.md.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from tools.publish import RESULTS

from limner.data.config import in_words
from limner.errors import InputError
from limner.settings import read_json
from limner.storage import write_atomically
from limner.studies import Study, averaged
from limner.studies.page import cells
from limner.training.runs import Run

FILES = ("results.json", "results.csv", "figure.png", "figure.svg")
PICTURES = {
    "samples.png": "Mean images from the prior of each model, not selected",
    "reconstructions.png": "Test images, and below them the mean image of each model given z ~ q",
}


def publish(folder: Annotated[Path, tyro.conf.Positional], /, *, command: str) -> None:
    """Write results/NAME of a study.

    Args:
        folder: the study's folder
        command: the command that trained it
    """
    document = read_json(folder / "results.json")
    if document["failed"]:
        raise InputError(f"Runs of {folder} failed: {', '.join(document['failed'])}.")
    home = RESULTS / folder.name
    home.mkdir(parents=True, exist_ok=True)
    for name in (*FILES, *PICTURES):
        if (folder / name).is_file():
            shutil.copy(folder / name, home / name)
    runs = [Run.at(folder / row["run"]) for row in document["runs"]]
    text = page(Study.parse(document["study"]), document["runs"], runs, command, home)
    write_atomically(home / "README.md", text)


def page(
    study: Study,
    rows: Sequence[Mapping[str, Any]],
    runs: Sequence[Run],
    command: str,
    home: Path,
) -> str:
    """README.md of a study."""
    learned = home / "learned.md"
    parts = [
        f"# {study.title}",
        study.about.strip(),
        f"    {command}",
        _what(rows, runs[0]),
        f"![{study.title}](figure.png)",
        _table(study, rows),
        *(f"![{text}]({name})" for name, text in PICTURES.items() if (home / name).is_file()),
        *([learned.read_text().strip()] if learned.is_file() else ()),
        _made(runs),
    ]
    return "\n\n".join(parts) + "\n"


def _what(rows: Sequence[Mapping[str, Any]], run: Run) -> str:
    results, seeds = run.results() or {}, len({row["seed"] for row in rows})
    error = f"{seeds} seeds" if seeds > 1 else "images (one seed)"
    return (
        f"Measured on {results['num_images']:,} test images of {results['dataset']}, "
        f"{in_words(results['binarization'])}. Nats per image, lower is better; ± is the standard "
        f"error over {error}. Seconds and images a second are those of training."
    )


def _table(study: Study, rows: Sequence[Mapping[str, Any]]) -> str:
    axes = list(
        dict.fromkeys(name for row in rows for name in list(row)[: list(row).index("seed")])
    )
    headings, lines = cells(averaged(rows, axes), axes, study)
    ruled = ["---" if heading in axes else "---:" for heading in headings]
    body = [[cell.text for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, ruled, *body))


def _made(runs: Sequence[Run]) -> str:
    """Commits, hardware and versions."""
    makers = [maker for run in runs for maker in (run.results() or {})["trained_with"]]
    commits, hardware, torch = (
        ", ".join(dict.fromkeys(maker[what] for maker in makers))
        for what in ("commit", "hardware", "torch")
    )
    return (
        f"Trained with commit {commits} on {hardware}, torch {torch}. "
        "Every run is in `results.csv`."
    )


if __name__ == "__main__":
    try:
        tyro.cli(publish, prog="python -m tools.study")
    except InputError as error:
        sys.exit(f"study: {error}")
