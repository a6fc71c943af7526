"""`limner study`: many runs from one file, and what came of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from limner.data.config import Binarization
from limner.errors import InputError
from limner.progress import say, suggest, waiting

if TYPE_CHECKING:
    from limner.studies import Planned, Study

StudyName = Annotated[
    str | None,
    tyro.conf.Positional,
    tyro.conf.arg(metavar="STUDY", help="a study file (TOML), or the name of a built-in study"),
]


@dataclass(frozen=True)
class OtherImages:
    """Settings of the images that replace those of a study."""

    name: str | None = None
    """other images, by name or path"""
    root: Path | None = None
    """folder of the images, on every machine"""
    size: int | tuple[int, int] | None = None
    """side of the images, or height and width"""
    binarization: Binarization | None = None
    """how pixels become 0 or 1"""
    test_from: Literal["train"] | None = None
    """train: cifar10 is tested on its fifth training batch"""

    def changes(self) -> dict[str, Any]:
        """The settings that are given, for a config in JSON."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return given | ({"root": str(self.root)} if self.root else {})


NO_OTHER = OtherImages()


def study(
    name: StudyName = None,
    /,
    *,
    listing: Annotated[bool, tyro.conf.arg(name="list")] = False,
    out: Path | None = None,
    jobs: int | None = None,
    engine: Literal["processes", "ray"] = "processes",
    address: str | None = None,
    data: OtherImages = NO_OTHER,
    dry_run: bool = False,
) -> None:
    """Train the runs of a study, several at once, and write its table, figure and report.

    To continue a study that was stopped, repeat the command: finished runs stay, unfinished ones
    resume. limner study --list shows the built-in studies.

    Args:
        listing: list the built-in studies
        out: folder of the study; runs/NAME if not given
        jobs: runs at once; by default from the cores, the memory and the GPUs
        engine: processes of this machine, or a Ray cluster (extra [ray])
        address: address of a Ray cluster; a cluster of this machine is started if not given
        data: images to use instead of those of the study
        dry_run: list the runs and train none
    """
    from limner.studies import built_in, open_study

    if listing:
        _print_built_in()
        return
    if name is None:
        raise InputError(f"Say which study: FILE.toml, or one of {', '.join(built_in())}.")
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs must be above zero; got {jobs}.")
    described = open_study(name)
    with waiting("loading PyTorch"):
        from limner.studies import carry_out, planned
        from limner.studies.display import displayed
        from limner.studies.resources import chosen_engine
        from limner.studies.writing import write
    plan = planned(described, data.changes())
    if dry_run:
        _print_plan(described, plan)
        if data == NO_OTHER:  # a suggestion has no flags
            suggest("study", name)
        return
    _check_images(plan)
    out = out or Path("runs") / Path(name).stem
    try:
        with displayed(described.title) as show:
            outcomes = carry_out(plan, out, chosen_engine(engine, address, plan, jobs), show)
    except KeyboardInterrupt:
        say("Stopped; the runs under way are saved. To continue, repeat the command.")
        raise
    write(described, outcomes, out)
    suggest("report", outcomes[0].folder)


def _check_images(plan: "Sequence[Planned]") -> None:
    """Refuse a study whose images cannot be loaded, before anything is trained."""
    from limner.data import load

    for data in {run.config.data.model_dump_json(): run.config.data for run in plan}.values():
        with waiting(f"loading {data.name}"):
            load(data)


def _print_built_in() -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from limner.studies import built_in, open_study, planned

    table = Table("name", "runs", "title", title="Built-in studies", title_justify="left")
    for name in built_in():
        described = open_study(name)
        table.add_row(name, str(len(planned(described))), escape(described.title))
    Console().print(table)
    suggest("study --dry-run", next(iter(built_in())))


def _print_plan(described: "Study", plan: "Sequence[Planned]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"{described.title}: {len(plan)} runs"
    table = Table("run", "model", "budget", title=escape(title), title_justify="left")
    for run in plan:
        config = run.config
        budget = f"{config.epochs} epochs" if config.epochs else f"{config.minutes:g} minutes"
        table.add_row(run.name, config.model.kind, budget)
    Console().print(table)
