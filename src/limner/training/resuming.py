"""Settings that may change when a run is resumed: all that do not decide the result of a step."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from limner.config import RunConfig
from limner.data import names as datasets
from limner.errors import InputError
from limner.progress import warn
from limner.settings import flat
from limner.storage import first_sound, load_tensors, read_document, save_tensors
from limner.training.optimizer import learning_rate
from limner.training.runs import Run
from limner.training.seen import NAME as HASHES
from limner.training.state import Counters

BUDGET = ("epochs", "minutes")
MAY_CHANGE = frozenset(
    {
        *BUDGET,
        "checkpoint_minutes",
        "compile",
        "data.name",
        "data.root",
        "device",
        "evaluate_samples",
        "model.memory",
        "trackers",
    }
)
"""Settings by dotted name. `data.name` may change from one path to another."""
_IN_WORDS = (
    "--epochs, --minutes, --device, --compile, --model.memory, --trackers, --evaluate-samples, "
    "--checkpoint-minutes and the path of the images"
)
_MOST_NAMED = 4


class Position(NamedTuple):
    """Where a training stands."""

    config: RunConfig
    epochs: float
    minutes: float
    step: int


def resumed(
    known: RunConfig, asked: RunConfig, out: Path, given: Collection[str] | None = None
) -> RunConfig:
    """The config with which the run in `out` continues; nothing is written.

    A new budget counts from the start of the run. If it moves the learning rate of a cosine
    schedule, a sentence says so.

    Args:
        known: the config of the run.
        asked: the config that is wanted.
        given: dotted names of the settings that were chosen on purpose; the others stay as they
            are in the run. None: all were.

    Raises:
        InputError: a setting differs that may not change, or the run has spent the new budget.
    """
    changes = differing(known, asked)
    if given is not None:
        changes = {name: value for name, value in changes.items() if name in given}
    wrong = [name for name in changes if not _may_change(name, known, asked, out)]
    if wrong:
        shown = ", ".join(map(_flag, wrong[:_MOST_NAMED]))
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise InputError(
            f"{out} was started with another config: {shown}{more} differ{'s' * (len(wrong) == 1)}"
            f"; resuming may change {_IN_WORDS}, so leave the others out, or start a new run from "
            f"these weights with --start-from {out}."
        )
    config = asked if given is None else _changed(known, asked, changes)
    _check_budget(known, config, out)
    return config


def differing(known: RunConfig, asked: RunConfig) -> dict[str, Any]:
    """The settings of `asked` by dotted name that are others than those of `known`."""
    if known.model.kind != asked.model.kind:
        return {"model.kind": asked.model.kind}
    old, new = flat(known.model_dump()), flat(asked.model_dump())
    return {name: value for name, value in new.items() if value != old.get(name)}


def adopt(run: Run) -> None:
    """Say what a new budget does; write the config into the checkpoints that repeat another one.

    A config.json without a checksum counts less than the config in the checkpoints, so a run that
    was resumed with other settings keeps them from here on, also if it is killed.
    """
    for sentence in _remarks(run):
        warn(sentence)
    config = run.config.model_dump(mode="json")
    for path in (run.exported, *run.weights("best"), *run.weights("last"), *run.training_states):
        with contextlib.suppress(InputError):  # damaged ones are replaced later
            if path.is_file() and read_document(path).get("config", config) != config:
                tensors, document = load_tensors(path)
                save_tensors(path, tensors, document | {"config": config})


def _may_change(name: str, known: RunConfig, asked: RunConfig, out: Path) -> bool:
    if name != "data.name":
        return name in MAY_CHANGE
    paths = not any(
        config.data.name in datasets() or config.data.name.startswith("hub:")
        for config in (known, asked)
    )
    return paths and (out / HASHES).is_file()  # with which the images are compared


def _check_budget(known: RunConfig, config: RunConfig, out: Path) -> None:
    """Refuse a new budget that is spent already."""
    position = position_of(out)
    if position is None:
        return
    for key in BUDGET:
        budget, spent = getattr(config, key), getattr(position, key)
        if budget is not None and budget != getattr(known, key) and budget < spent:
            raise InputError(
                f"{out} has already trained for {spent:.4g} {key}, more than --{key} {budget:g}; "
                "give a larger number, which counts from the start of the run."
            )


def _remarks(run: Run) -> Iterator[str]:
    """What to know of a budget that is spent, or that moves the learning rate."""
    config, position = run.config, position_of(run.path)
    if position is None:
        return
    for key in BUDGET:
        budget, spent = getattr(config, key), getattr(position, key)
        if budget is not None and budget <= spent:
            yield (
                f"{run.path} has trained for its {budget:g} {key}; a larger --{key} continues, "
                "counted from the start of the run."
            )
    rates = [
        learning_rate(one.optimizer, position.step, _share(one, position))
        for one in (position.config, config)
    ]
    if _budget(position.config) != _budget(config) and rates[1] > 1.01 * rates[0]:
        yield (
            f"The cosine schedule continues at {_share(config, position):.0%} of the new budget: "
            f"the learning rate rises from {rates[0]:.2g} to {rates[1]:.2g} at once, so -ELBO "
            "may rise before it falls."
        )


def _budget(config: RunConfig) -> list[float | None]:
    return [getattr(config, key) for key in BUDGET]


def _share(config: RunConfig, position: Position) -> float:
    """The share of the budget that is spent, as the trainer counts it."""
    budgets = {key: getattr(config, key) for key in BUDGET}
    return max(getattr(position, key) / value for key, value in budgets.items() if value)


def position_of(out: Path) -> Position | None:
    """Where the training in `out` stands; None if it has no sound state."""
    try:
        sound = first_sound(Run.at(out).training_states, read_document, lambda _: None)
        if sound is None:
            return None
        counters = TypeAdapter(Counters).validate_python(sound[1])
        config = RunConfig.parse(sound[1]["config"])
    except (InputError, KeyError, ValidationError):  # the trainer says what is wrong
        return None
    whole = counters.step - counters.index
    part = counters.index * counters.epoch / whole if whole > 0 else 0.0
    return Position(config, counters.epoch + part, counters.seconds / 60, counters.step)


def _changed(known: RunConfig, asked: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """`known` with some settings of `asked`."""
    own = {name: getattr(asked, name) for name in changes if "." not in name}
    for part in {name.partition(".")[0] for name in changes} - set(own):
        keys = [name.partition(".")[2] for name in changes if name.startswith(f"{part}.")]
        values = {key: getattr(getattr(asked, part), key) for key in keys}
        own[part] = getattr(known, part).with_(**values)
    return known.with_(**own)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
