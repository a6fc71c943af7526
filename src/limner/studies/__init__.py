"""Studies: many runs from one file, trained side by side, with one table and one figure.

file       what a study file says
planning   the file as runs, each with its config and its folder
working    one run, trained in a process of its own
engines    many runs at once: processes of this machine, or a Ray cluster
resources  how many at once, and what each may use
studying   a study from its plan to its last run
tables     figures of every run, and their means over seeds
writing    the files that a study leaves

The names below are imported on first use, so that studies are listed without importing torch.
"""

from typing import TYPE_CHECKING

from limner.lazy import lazy

_HOMES = {
    "Axis": "file",
    "Choice": "file",
    "Outcome": "studying",
    "Planned": "planning",
    "Plot": "file",
    "Study": "file",
    "averaged": "tables",
    "built_in": "file",
    "carry_out": "studying",
    "open_study": "file",
    "planned": "planning",
    "rows": "tables",
}

if TYPE_CHECKING:
    from limner.studies.file import Axis as Axis
    from limner.studies.file import Choice as Choice
    from limner.studies.file import Plot as Plot
    from limner.studies.file import Study as Study
    from limner.studies.file import built_in as built_in
    from limner.studies.file import open_study as open_study
    from limner.studies.planning import Planned as Planned
    from limner.studies.planning import planned as planned
    from limner.studies.studying import Outcome as Outcome
    from limner.studies.studying import carry_out as carry_out
    from limner.studies.tables import averaged as averaged
    from limner.studies.tables import rows as rows


__getattr__, __dir__ = lazy(__name__, _HOMES)
