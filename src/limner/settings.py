"""The base of every config: frozen, refusing unknown keys, errors told in a sentence."""

from typing import Any, Self

import tyro
from pydantic import BaseModel, ConfigDict, ValidationError

from limner.errors import InputError

Hidden = tyro.conf.Suppress
"""Marks a field that is no flag: `Annotated[type, Hidden]`."""


class Settings(BaseModel):
    """A frozen config. Unknown keys and values out of range raise `InputError`.

    Subclasses declare fields with their ranges; `Field(description=...)` becomes the flag's help.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(_sentence(type(self).__name__, error)) from None

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


def _sentence(name: str, error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or name
    if first["type"] == "extra_forbidden":
        return f"{name} has no setting {where!r}; remove it or correct its name."
    message = first["msg"].removeprefix("Value error, ")
    shown = repr(first["input"])
    got = "" if first["type"] in ("missing", "value_error") else f"; got {shown[:80]}"
    place = ".".join([name, *map(str, first["loc"])])
    return f"{place}: {message}{got}."
