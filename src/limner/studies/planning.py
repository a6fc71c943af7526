"""The runs of a study: every combination of its axes, for every seed."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from limner.config import RunConfig
from limner.data import DataConfig
from limner.data.known import known_observation
from limner.errors import InputError
from limner.progress import waiting
from limner.recipes import recipe
from limner.studies.file import Axis, Study

SETTINGS_OF_A_STUDY = ("seed", "evaluate_samples")
BUDGETS = {"epochs", "minutes"}
MOST = 10_000
"""Runs of one study."""
LONGEST = 80
"""Letters of a folder's name, before its seed."""


class Planned(NamedTuple):
    """One run of a study."""

    labels: Mapping[str, str]
    """The value of each axis, in words."""
    config: RunConfig
    name: str
    """Name of its folder, the same for all seeds but the ending."""


def planned(study: Study, data: Mapping[str, Any] | None = None) -> list[Planned]:
    """The runs of a study, seeds together.

    Args:
        data: settings of the images that replace the study's, such as {"root": FOLDER}.

    Raises:
        InputError: a combination is not a valid config; the sentence names it.
    """
    base = recipe(study.recipe).model_dump(mode="json") if study.recipe else {}
    base = merged(base, study.base)
    found = []
    suit = _Suited()
    combinations = list(itertools.islice(_combinations(study.axes), MOST + 1))
    if (count := len(combinations) * len(study.seeds)) > MOST:
        raise InputError(f"This study has {count:,} runs or more; leave out values.")
    _check_free(study.base)
    for labels, changes in combinations:
        _check_free(changes)
        values = merged(base, changes)
        if data:
            values = merged(values, {"data": data})
        try:
            config = suit(values)
        except InputError as error:
            where = ", ".join(f"{name} {value}" for name, value in labels.items())
            raise InputError(f"{where}: {error}" if where else str(error)) from None
        for seed in study.seeds:
            own = config.with_(seed=seed, evaluate_samples=study.samples)
            words = "-".join(labels.values()) or config.model.kind
            found.append(Planned(labels, own, f"{slug(words)}-seed-{seed}"))
    _check_names(found)
    return found


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with some changed.

    A model of another kind replaces the whole model, and epochs replace minutes.
    """
    result = dict(values)
    if len(BUDGETS & changes.keys()) == 1:
        result = {key: value for key, value in result.items() if key not in BUDGETS}
    for key, change in changes.items():
        present = result.get(key)
        if isinstance(present, Mapping) and isinstance(change, Mapping):
            kinds = [part["kind"] for part in (present, change) if "kind" in part]
            other = key == "model" and len(kinds) == 2 and kinds[0] != kinds[1]
            result[key] = dict(change) if other else merged(present, change)
        else:
            result[key] = change
    return result


def slug(words: str) -> str:
    """Words as the name of a folder."""
    return re.sub(r"(?:[^\w.]|_)+", "-", words.lower())[:LONGEST].strip("-.") or "run"


def _combinations(
    axes: Sequence[Axis],
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Labels and changes of every combination; the axes of a choice multiply only that choice."""
    for combination in itertools.product(*(list(_along(axis)) for axis in axes)):
        labels: dict[str, str] = {}
        changes: dict[str, Any] = {}
        for own_labels, own_changes in combination:
            if twice := labels.keys() & own_labels.keys():
                raise InputError(f"Two axes have the name {min(twice)!r}; rename one.")
            labels |= own_labels
            changes = merged(changes, own_changes)
        yield labels, changes


def _along(axis: Axis) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    for choice in axis.options():
        for labels, changes in _combinations(choice.axes):
            if axis.label in labels:
                raise InputError(f"Two axes have the name {axis.label!r}; rename one.")
            yield {axis.label: choice.name} | labels, merged(choice.set, changes)


def _check_free(values: Mapping[str, Any]) -> None:
    if any(name in values for name in SETTINGS_OF_A_STUDY):
        raise InputError(
            "A study sets seed and evaluate_samples itself; write seeds and samples at its top."
        )


class _Suited:
    """Configs with the observation that suits the images, unless one is given."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def __call__(self, values: dict[str, Any]) -> RunConfig:
        config = RunConfig.parse(values)
        if "observation" in values["model"]:
            return config
        observation = known_observation(config.data) or self._loaded(config.data)
        return config.with_(model=config.model.with_(observation=observation))

    def _loaded(self, data: DataConfig) -> str:
        """The observation that suits images of your own."""
        images = data.model_dump_json()
        if images not in self._found:
            with waiting(f"loading {data.name}"):
                from limner.data import load, natural_observation

                self._found[images] = natural_observation(load(data))
        return self._found[images]


def _check_names(runs: Sequence[Planned]) -> None:
    seen: dict[str, Planned] = {}
    for run in runs:
        if run.name in seen:
            raise InputError(
                f"Two runs of this study would have the folder {run.name}; give the choices "
                "different names."
            )
        seen[run.name] = run
