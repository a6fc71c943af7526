"""Flags from the parameters of a function or the fields of a class, with tyro."""

import dataclasses
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, get_args

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

Spec = PrimitiveConstructorSpec | UnsupportedTypeAnnotationError | None
MARKERS = (tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands, tyro.conf.DisallowNone)
"""No --no-FLAG, no choice of a class, and no value None: a flag is left out instead."""
REGISTRY = ConstructorRegistry()
_inside: set[object] = set()


def parsed(what: Callable[..., Any], prog: str, arguments: Sequence[str], **settings: Any) -> Any:
    """`what`, called with the values of flags; `settings` are those of `tyro.cli`."""
    with REGISTRY:
        return tyro.cli(what, prog=prog, args=arguments, config=MARKERS, **settings)


@REGISTRY.primitive_rule
def _none(type_info: PrimitiveTypeInfo) -> Spec:
    """None as a default is shown as "not given"."""
    if type_info.type is not NoneType:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{None}",
        instance_from_str=lambda _: None,
        is_instance=lambda value: value is None,
        str_from_instance=lambda _: ["not", "given"],
        choices=("None",),
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
