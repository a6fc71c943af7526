"""A training step as CUDA graphs, which the GPU repeats without the cost of launching kernels.

A graph repeats the same kernels on the same memory. So its inputs are fixed tensors that are
overwritten before each replay, and its generators are registered, so that a seed set before a
replay decides its noise. On a CPU the same functions run without a graph.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from limner.errors import InputError

WARM_UP = 3
"""Ordinary calls before the capture, in which libraries choose kernels and allocate workspaces."""


def own_stream(device: torch.device) -> torch.cuda.Stream | None:
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
    """

    def __init__(
        self,
        run: Callable[[], None],
        device: torch.device,
        generators: Sequence[torch.Generator] = (),
    ):
        self.run, self.device, self.generators = run, device, generators
        self.calls, self.graph = 0, None
        self.stream = own_stream(device)

    def __call__(self) -> None:
        if self.stream is None:
            self.run()
        elif self.graph is not None:
            self.graph.replay()
        elif self.calls < WARM_UP:
            self._beside(self.stream)
        else:
            self.graph = self._captured(self.stream)
            self.graph.replay()
        self.calls += 1

    def _beside(self, stream: torch.cuda.Stream) -> None:
        """An ordinary call on the stream of the capture."""
        present = torch.cuda.current_stream(self.device)
        stream.wait_stream(present)
        with torch.cuda.stream(stream):
            self.run()
        present.wait_stream(stream)

    def _captured(self, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        try:
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self.run()
        except RuntimeError as error:
            first = str(error).partition("\n")[0]
            raise InputError(
                f"This training step cannot be a CUDA graph ({first}); pass --compile auto."
            ) from None
        return graph
