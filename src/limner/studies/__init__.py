"""Studies: many runs from one file, trained side by side, with one table and one figure.

file       what a study file says
planning   the file as runs, each with its config and its folder
working    one run, trained in a process of its own
engines    many runs at once: processes of this machine, or a Ray cluster
resources  how many at once, and what each may use
studying   a study from its plan to its last run
tables     figures of every run, and their means over seeds
writing    the files that a study leaves
"""

from limner.studies.file import Axis, Choice, Plot, Study, built_in, open_study
from limner.studies.planning import Planned, planned
from limner.studies.studying import Outcome, carry_out
from limner.studies.tables import averaged, rows

__all__ = [
    "Axis",
    "Choice",
    "Outcome",
    "Planned",
    "Plot",
    "Study",
    "averaged",
    "built_in",
    "carry_out",
    "open_study",
    "planned",
    "rows",
]
