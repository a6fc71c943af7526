"""Copies of modules that share what is not replaced; the module itself is never changed."""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def with_tensors(module: Module, tensors: Mapping[str, Tensor]) -> Module:
    """A copy of `module` and its submodules whose parameters are `tensors`, by name.

    Parameters that are not named stay those of `module`, as do its buffers.
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
