"""The base of every config: frozen, with unknown keys and bad values refused in one sentence."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import tyro
from pydantic import BaseModel, ConfigDict, ValidationError

from limner.errors import InputError, names_flags, nearest
from limner.keywords import in_keywords

Hidden = tyro.conf.Suppress
"""`Annotated[type, Hidden]` makes a field that has no flag."""
MAX_JSON = 2**22
"""Bytes of JSON that are parsed at most; the parsed values can take a hundred times as much."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: it cannot be read, is not JSON, or is longer than `MAX_JSON`.
    """
    return parse_json(read_bytes(path, MAX_JSON), path)


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes; reading stops there."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    if len(content) > limit:
        raise InputError(f"{path} is longer than any file that Limner writes; restore it.")
    return content


def parse_json(content: bytes | str, path: Path) -> Any:
    """The values in JSON read from `path`; `InputError` if it is not JSON, or very long."""
    try:
        if len(content) > MAX_JSON:
            raise ValueError
        return json.loads(content)
    except (ValueError, RecursionError):
        raise InputError(f"{path} is damaged: it is not JSON; restore it.") from None


class Settings(BaseModel):
    """A frozen config. Unknown keys and values out of range raise `InputError`.

    Subclasses declare fields with their ranges; `Field(description=...)` becomes the flag's help.
    """

    prefix: ClassVar[str] = ""
    """Of the flags of its settings, such as "data."."""
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(_sentence(type(self), error)) from None

    @classmethod
    def parse(cls, values: Any) -> Self:
        """Settings from plain data, as read from JSON."""
        if not isinstance(values, dict):
            raise InputError(f"{cls.__name__} must be a mapping of keys to values; got {values!r}.")
        return cls(**values)

    def with_(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated like a new one."""
        return type(self)(
            **{name: getattr(self, name) for name in type(self).model_fields} | changes
        )


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def dotted(values: Mapping[str, Any]) -> set[str]:
    """Dotted names of all settings in nested mappings that are not None."""
    return {name for name, value in flat(values).items() if value is not None}


def _sentence(kind: type[Settings], error: ValidationError) -> str:
    """What is wrong with the first wrong setting, named as the user knows it."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):  # from a config inside this one, already a sentence
        return str(cause)
    if first["type"] == "extra_forbidden":
        where = ".".join(map(str, first["loc"]))
        guess = nearest(where, kind.model_fields)
        end = f"{guess}Otherwise remove it." if guess else "remove it or correct its name."
        return f"{kind.__name__} has no setting {where!r}; {end}"
    message = first["msg"].removeprefix("Value error, ").removesuffix(".")
    if first["type"] == "value_error":  # of a validator, which writes settings as flags
        if not names_flags():
            message = in_keywords(message.replace(f"--{kind.prefix}", "--"))
        if not first["loc"] and names_flags():
            return f"{message[:1].upper()}{message[1:]}."
        return f"{_name(kind, first['loc'])}: {message}."
    if first["type"] == "missing":
        return f"{_name(kind, first['loc'])} is missing; give it."
    message = message.replace("Input should", "must", 1)
    return f"{_name(kind, first['loc'])} {message}; got {first['input']!r:.80}."


def _name(kind: type[Settings], place: tuple[int | str, ...]) -> str:
    """A setting as a flag on the command line, --model.num-steps; otherwise DRAWConfig.num_steps.

    Of a setting with several values, or several forms, the whole is named.
    """
    if not place:
        return kind.__name__
    if names_flags():
        return f"--{kind.prefix}{place[0]}".replace("_", "-")
    return ".".join([kind.__name__, *map(str, place)])
