"""Random numbers of a training that do not change the caller's random state."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def seeded(seed: int, compiled: bool = True) -> Iterator[None]:
    """A context in which this thread draws CPU noise from a generator of its own.

    The numbers are those that follow `torch.manual_seed(seed)`. Neither the global random state nor
    other threads are affected. Where no `compiled` code runs, torch need not import its compiler,
    which takes five seconds.
    """
    mode = _BesideCompiled if compiled else _Redirected
    with mode(torch.Generator().manual_seed(seed)):
        yield


class _Redirected(TorchDispatchMode):
    """Hands `generator` to every operation that would draw from the global random state."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self.generator = generator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags and kwargs.get("generator") is None:
            names = {argument.name for argument in func._schema.arguments}
            if "generator" not in names:  # torch.randn and its like have an overload that takes one
                func = func.overloadpacket.generator
            kwargs = kwargs | {"generator": self.generator}
        return func(*args, **kwargs)


class _BesideCompiled(_Redirected):
    """The same, which torch's compiler leaves alone."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return True

    __torch_dispatch__ = _Redirected.__torch_dispatch__
