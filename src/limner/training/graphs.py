"""A training step as CUDA graphs, which the GPU repeats without the cost of launching kernels.

A graph repeats the same kernels on the same memory. So its inputs are fixed tensors that are
overwritten before each replay, and its generators are registered, so that a seed set before a
replay decides its noise. On a CPU the same functions run without a graph.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from torch import nn

WARM_UP = 3
"""Ordinary calls before the capture, in which libraries choose kernels and allocate workspaces."""
PLAIN = (bool, int, float, str, type(None))
"""Types of a model's settings that are watched."""

IGNORED = {*vars(nn.Module()), "compiled"} - {"training"}
"""Names of settings that torch keeps in every module, and one that does not matter to a graph."""

Stream = Any
"""A torch.cuda.Stream, or what a test passes for one."""

_exclusive = threading.Lock()
"""Held by a capture, which marks torch's default generator, and by a replay, which fails at the
mark. So several trainings in threads do not disturb each other."""


class NotCapturable(Exception):
    """A function cannot be captured. Nothing of it was executed; the message is torch's reason."""


def own_stream(device: torch.device) -> Stream | None:
    """The current stream of a GPU unless it is the default one, else a new one; None on a CPU.

    A capture needs a stream of its own, on which all earlier steps ran too: autograd keeps the
    stream on which it first met a parameter.
    """
    if device.type != "cuda":
        return None
    present = torch.cuda.current_stream(device)
    return torch.cuda.Stream(device) if present == torch.cuda.default_stream(device) else present


def on_own_stream(device: torch.device) -> AbstractContextManager[object]:
    """A context on `own_stream`; without a GPU an empty one, since torch.cuda.stream(None) fails
    on a machine with mps."""
    stream = own_stream(device)
    return nullcontext() if stream is None else torch.cuda.stream(stream)


class Replayed:
    """`run`, which takes and returns nothing; captured after `WARM_UP` calls, then replayed.

    Args:
        run: must use the same tensors at every call, and read nothing from the device.
        generators: sources of its noise.
        model: what `run` computes; its `Constants` must not change after the first call.

    A call raises NotCapturable if it cannot be a replay; nothing was executed then.
    """

    def __init__(
        self,
        run: Callable[[], None],
        device: torch.device,
        generators: Sequence[torch.Generator] = (),
        model: nn.Module | None = None,
    ):
        self.run, self.generators, self.model = run, generators, model
        self.calls = 0
        self.replay: Callable[[], None] | None = None
        self.constants: Constants | None = None
        self.stream = own_stream(device)

    def __call__(self) -> None:
        if self.stream is None:
            self.run()
            return
        if self.constants is not None and self.constants.changed():
            raise NotCapturable("settings of the model change while it is trained")
        if self.calls < WARM_UP:
            beside(self.stream, self.run)
        else:
            with _exclusive:
                self.replay = self.replay or capture(self.stream, self.run, self.generators)
                self.replay()
        if self.calls == 0 and self.model is not None:
            self.constants = Constants(self.model)
        self.calls += 1


def beside(stream: Stream, run: Callable[[], None]) -> None:
    """An ordinary call of `run` on the stream of the capture."""
    present = torch.cuda.current_stream(stream.device)
    stream.wait_stream(present)
    with torch.cuda.stream(stream):
        run()
    present.wait_stream(stream)


def capture(
    stream: Stream, run: Callable[[], None], generators: Sequence[torch.Generator]
) -> Callable[[], None]:
    """A function that repeats `run` as a CUDA graph. The GPU executes nothing here.

    Raises:
        NotCapturable: current stream, allocator and generators are as before.
    """
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    present = torch.cuda.current_stream(stream.device)
    try:
        _record(graph, pool, stream, run, generators)
    except BaseException as error:
        torch.cuda.set_stream(present)
        _end(graph, pool, stream.device)
        _release(stream, generators)
        torch.cuda.set_stream(present)
        if not isinstance(error, Exception):
            raise
        raise NotCapturable(_first_reason(error)) from error
    return graph.replay


def _record(
    graph: torch.cuda.CUDAGraph,
    pool: Any,
    stream: Stream,
    run: Callable[[], object],
    generators: Sequence[torch.Generator],
) -> None:
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
        run()


_abandoned: list[torch.cuda.CUDAGraph] = []
"""Graphs that torch's allocators may still refer to."""


def _end(graph: torch.cuda.CUDAGraph, pool: Any, device: torch.device) -> None:
    """End what a failed capture began in the allocator; torch does so only if it succeeds."""
    try:
        graph.pool()
    except RuntimeError:  # the capture did not end
        _abandoned.append(graph)
        for end in (torch._C._cuda_endAllocateToPool, torch._C._cuda_releasePool):
            with suppress(RuntimeError):
                end(device.index, pool)
    graph.reset()


def _release(stream: Stream, generators: Sequence[torch.Generator]) -> None:
    """Free generators, and torch's default one, of the mark that a failed capture leaves.

    A marked generator refuses to be used. A capture that succeeds takes the mark off; if that
    fails, new states take the place of the marked ones.
    """
    device, graph = stream.device, torch.cuda.CUDAGraph()
    pool = torch.cuda.graph_pool_handle()
    try:
        _record(graph, pool, stream, lambda: torch.zeros(1, device=device), generators)
    except RuntimeError:
        _end(graph, pool, device)
        for generator in [*generators, torch.cuda.default_generators[device.index]]:
            new = torch.Generator(device).set_state(generator.get_state())
            generator.graphsafe_set_state(new.graphsafe_get_state())


def _first_reason(error: BaseException) -> str:
    """The first line of the first of all errors; those after it only follow from it."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).partition("\n")[0] or type(error).__name__


def capturing(device: torch.device) -> bool:
    """Whether a graph is being captured on the current stream."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


class Constants:
    """What a graph of a model's step repeats though the model may change it.

    They are the numbers, names and flags in its modules, where its parameters are, and whether they
    are trained.
    """

    def __init__(self, model: nn.Module):
        self.parameters = list(model.parameters())
        self.attributes = [
            (attributes, name)
            for attributes in map(vars, model.modules())
            for name, value in attributes.items()
            if type(value) in PLAIN and name not in IGNORED
        ]
        self.values = self._present()

    def _present(self) -> list[object]:
        return [
            *[attributes.get(name) for attributes, name in self.attributes],
            *[parameter.data_ptr() for parameter in self.parameters],
            *[parameter.requires_grad for parameter in self.parameters],
        ]

    def changed(self) -> bool:
        """Whether any is another one than when this object was made."""
        return self._present() != self.values
