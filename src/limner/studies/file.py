"""Study files: TOML that says which runs to train, and what to plot.

    title = "Depth in time"
    seeds = [0, 1, 2]

    [base]                              # settings of every run, as in a run's config.json
    epochs = 40
    model.kind = "draw"

    [[axes]]                            # every combination of the axes is trained
    setting = "model.num_steps"
    values = [1, 2, 4, 8]

    [[axes]]
    name = "attention"                  # named choices, each with any settings
    [[axes.choices]]
    name = "without"
    [[axes.choices]]
    name = "filterbank"
    set.model.attention = "filterbank"

    [[plots]]
    x = "groups"
    y = "-ELBO"

A choice may have axes of its own. `recipe = "NAME"` takes the base from a recipe.
"""

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from limner.config import Samples, Seed
from limner.errors import InputError, unknown
from limner.settings import MAX_JSON, Settings, read_bytes

FOLDER = Path(__file__).parent / "built_in"
X = Literal["steps", "groups", "parameters", "training seconds", "memory", "choice"]
"""`choice`: a place on the axis for every combination of choices."""
Y = Literal["-ELBO", "-L_K", "bits per dimension"]
Name = Annotated[str, Field(min_length=1)]
FIGURES = (
    *get_args(Y),
    *("groups", "steps", "parameters", "training seconds", "images per second", "memory"),
)
"""Figures of a run. `memory`: bytes that a training step keeps for the backward pass."""
ERRORS = {bound: f"{bound}, stderr over images" for bound in get_args(Y)}
"""The columns with the errors of the bounds of one run."""
COLUMNS = frozenset({*FIGURES, *ERRORS.values(), "seed", "seeds", "run"})
"""Columns of the table, whose names no axis can have."""


class Choice(Settings):
    """One value of an axis that has a name: any settings, and axes of its own."""

    name: Name
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings of a run, nested as in config.json."""
    axes: tuple["Axis", ...] = ()


class Axis(Settings):
    """What varies: the values of one setting, or named choices."""

    name: Name | None = None
    """In tables and figures; by default the last part of the setting."""
    setting: Name | None = None
    """Dotted name, such as model.num_steps."""
    values: tuple[Any, ...] = ()
    choices: tuple[Choice, ...] = ()

    @model_validator(mode="after")
    def _is_one_kind(self) -> "Axis":
        by_setting = self.setting is not None and len(self.values) > 0 and not self.choices
        by_name = self.setting is None and not self.values and len(self.choices) > 0
        if not by_setting and not (by_name and self.name is not None):
            raise ValueError("an axis has a setting and its values, or a name and its choices")
        if self.name in COLUMNS:
            raise ValueError(f"{self.name!r} is a column of the table; name the axis otherwise")
        return self

    @property
    def label(self) -> str:
        assert self.name or self.setting
        words = str(self.setting).replace("_", " ")
        short = words.rpartition(".")[2]
        return self.name or (words.replace(".", " ") if short in COLUMNS else short)

    def options(self) -> Iterator[Choice]:
        """Its values as choices."""
        yield from self.choices
        for value in self.values:
            assert self.setting is not None
            yield Choice(name=_shown(value), set=_nested(self.setting, value))


class Plot(Settings):
    """A panel of the figure: means over seeds with their standard errors."""

    x: X = "groups"
    y: Y = "-ELBO"


class Study(Settings):
    """A study file."""

    title: Name
    about: str = ""
    recipe: str | None = None
    """Recipe of the base."""
    base: dict[str, Any] = Field(default_factory=dict)
    """Settings of every run, nested as in config.json."""
    axes: tuple[Axis, ...] = ()
    seeds: tuple[Seed, ...] = (0,)
    samples: Samples = 100
    """K of -L_K."""
    lines: str | None = None
    """The axis that has a line for each value.

    By default the first one with named choices, otherwise the second axis; a single axis of values
    is one line.
    """
    plots: Annotated[tuple[Plot, ...], Field(min_length=1)] = (Plot(),)

    @model_validator(mode="after")
    def _is_whole(self) -> "Study":
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds must be one seed or several different ones")
        if len(names := [axis.label for axis in self.axes]) > len(set(names)):
            raise ValueError("two axes have the same name; give one of them another name")
        if self.lines is not None and self.lines not in names:
            raise ValueError(f"there is no axis {self.lines!r} for lines; choose from {names}")
        return self

    @property
    def line_axis(self) -> str | None:
        named = [axis.label for axis in self.axes if axis.choices]
        others = [axis.label for axis in self.axes[1:]]
        return self.lines or next(iter([*named, *others]), None)


def built_in() -> dict[str, Path]:
    """The studies that come with Limner, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def open_study(path_or_name: str | Path) -> Study:
    """The study in a file, or a built-in one by its name; an existing file wins.

    Raises:
        InputError: no such file or name, not TOML, or not a study.
    """
    path, known = Path(path_or_name), built_in()
    if not os.path.isfile(path):  # also of a name longer than any file's
        if path.suffix == ".toml":
            raise InputError(f"There is no study file {path}; check its path.")
        if str(path_or_name) not in known:
            raise unknown("study", str(path_or_name), [*known, "FILE.toml"])
        path = known[str(path_or_name)]
    try:
        values = tomllib.loads(read_bytes(path, MAX_JSON).decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}.") from None
    try:
        return Study.parse(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _nested(setting: str, value: Any) -> dict[str, Any]:
    """A value under a dotted name: {"model": {"num_steps": 4}}."""
    for part in reversed(setting.split(".")):
        value = {part: value}
    return value


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "-".join(map(_shown, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
