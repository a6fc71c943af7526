"""Copies of modules in which some parameters or parts are replaced and the rest is shared."""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def with_tensors(
    module: Module, tensors: Mapping[str, Tensor], own_buffers: bool = False
) -> Module:
    """A copy of `module` and its submodules whose parameters are `tensors`, by name.

    Other parameters are shared with `module`, which is not changed, and so are buffers, unless the
    copy is to have `own_buffers`. A parameter with several names is replaced under all of them.
    """
    known = dict(module.named_parameters())
    replaced = {id(known[name]): tensor for name, tensor in tensors.items()}
    return _copied(module, replaced, own_buffers, {})


def _copied(
    module: Any, replaced: Mapping[int, Tensor], own_buffers: bool, made: dict[int, nn.Module]
) -> Any:
    if id(module) in made:
        return made[id(module)]
    clone = made[id(module)] = _shallow(module)
    clone._parameters = {
        name: replaced.get(id(own), own) for name, own in module._parameters.items()
    }
    clone._modules = {
        name: None if child is None else _copied(child, replaced, own_buffers, made)
        for name, child in module._modules.items()
    }
    if own_buffers:
        clone._buffers = {
            name: None if buffer is None else buffer.clone()
            for name, buffer in module._buffers.items()
        }
    return clone


def with_parts(module: Module, **parts: Any) -> Module:
    """A copy of `module` with other submodules or attributes."""
    clone = _shallow(module)
    clone._modules = dict(module._modules)
    for name, part in parts.items():
        setattr(clone, name, part)
    return clone


def _shallow(module: Any) -> Any:
    """`copy.copy`, which parametrized modules refuse."""
    clone = module.__class__.__new__(module.__class__)
    clone.__dict__.update(module.__dict__)
    return clone
