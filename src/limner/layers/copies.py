"""Copies of modules in which some parameters or parts are replaced and the rest is shared."""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def with_tensors(module: Module, tensors: Mapping[str, Tensor]) -> Module:
    """A copy of `module` and its submodules whose parameters are `tensors`, by name.

    Other parameters, and buffers, are shared with `module`, which is not changed.
    """
    return _copied(module, tensors, "", {})


def _copied(
    module: Any, tensors: Mapping[str, Tensor], prefix: str, made: dict[int, nn.Module]
) -> Any:
    if id(module) in made:
        return made[id(module)]
    clone = made[id(module)] = copy.copy(module)
    clone._parameters = {
        name: tensors.get(prefix + name, own) for name, own in module._parameters.items()
    }
    clone._modules = {
        name: None if child is None else _copied(child, tensors, f"{prefix}{name}.", made)
        for name, child in module._modules.items()
    }
    return clone


def with_parts(module: Module, **parts: Any) -> Module:
    """A copy of `module` with other submodules or attributes."""
    clone = copy.copy(module)
    clone._modules = dict(module._modules)
    for name, part in parts.items():
        setattr(clone, name, part)
    return clone
