"""Flags from the parameters of a function or the fields of a class, with tyro."""

import dataclasses
import inspect
import io
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import partial, wraps
from textwrap import fill
from types import NoneType, UnionType
from typing import Any, Union, get_args

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

from limner.errors import InputError

Spec = PrimitiveConstructorSpec | UnsupportedTypeAnnotationError | None
MARKERS = (tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands)
"""No --no-FLAG, and no choice of a class."""
REGISTRY = ConstructorRegistry()
_inside: set[object] = set()


def parsed(
    what: Callable[..., Any],
    prog: str,
    arguments: Sequence[str],
    about: str | None = None,
    default: Any = tyro.MISSING,
) -> Any:
    """`what`, called with the values of flags.

    Args:
        about: the text before the flags; the docstring of `what` if not given.
        default: an instance of `what` whose fields are the defaults.
    """
    text = _filled((inspect.getdoc(what) if about is None else about) or "")
    given = {} if default is tyro.MISSING else {"default": default}
    errors = io.StringIO()
    try:
        with REGISTRY, redirect_stderr(errors):
            return tyro.cli(
                what, prog=prog, args=arguments, description=text, config=MARKERS, **given
            )
    except SystemExit as stopped:
        if refused := _refused(stopped):
            errors = io.StringIO()  # tyro's words about the same
            raise refused from None
        raise
    finally:
        sys.stderr.write(errors.getvalue())


def bound(function: Callable[..., None], prog: str, arguments: Sequence[str]) -> partial[None]:
    """`function` with the values of its flags, to be called."""

    @wraps(function)
    def values(*positional: Any, **flags: Any) -> partial[None]:
        return partial(function, *positional, **flags)

    return parsed(values, prog, arguments)


def _refused(error: BaseException | None) -> InputError | None:
    """The error of a config that made tyro exit."""
    while error is not None and not isinstance(error, InputError):
        error = error.__context__
    return error


def _filled(text: str) -> str:
    """A docstring without its arguments, in lines as wide as the terminal.

    tyro joins a line that begins with a letter to the one before, so these begin with spaces.
    """
    width = shutil.get_terminal_size().columns
    paragraphs = text.partition("\nArgs:")[0].strip("\n").split("\n\n")
    return "\n\n".join(
        paragraph if "\n  " in paragraph else fill(paragraph, width, subsequent_indent="  ")
        for paragraph in paragraphs
    )


@REGISTRY.primitive_rule
def _optional(type_info: PrimitiveTypeInfo) -> Spec:
    """A value or None: only a default is None, and is shown as "not given"."""
    kinds = [kind for kind in get_args(type_info.type) if kind is not NoneType]
    if type_info.type_origin not in (Union, UnionType) or NoneType not in get_args(type_info.type):
        return None
    kind: Any = Union[tuple(kinds)]  # noqa: UP007
    spec = ConstructorRegistry.get_primitive_spec(
        PrimitiveTypeInfo.make(kind, parent_markers=type_info.markers)
    )
    if isinstance(spec, UnsupportedTypeAnnotationError):
        return spec
    matches, shown = spec.is_instance, spec.str_from_instance
    return dataclasses.replace(
        spec,
        is_instance=lambda value: value is None or matches(value),
        str_from_instance=lambda value: ["not", "given"] if value is None else shown(value),
    )


@REGISTRY.primitive_rule
def _tuple(type_info: PrimitiveTypeInfo) -> Spec:
    """An empty tuple as a default is shown as "none"."""
    kind = type_info.type
    if type_info.type_origin is not tuple or Ellipsis not in get_args(kind) or kind in _inside:
        return None
    _inside.add(kind)
    try:
        spec = ConstructorRegistry.get_primitive_spec(type_info)
    finally:
        _inside.remove(kind)
    if isinstance(spec, UnsupportedTypeAnnotationError):
        return spec
    shown = spec.str_from_instance
    return dataclasses.replace(
        spec, str_from_instance=lambda value: shown(value) if value else ["none"]
    )
