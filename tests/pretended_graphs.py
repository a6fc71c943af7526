"""A pretended torch with CUDA graphs, of which a capture can fail as torch's does.

A capture marks its generators and torch's default one, and directs allocations to a pool. If it
fails, it ends neither, raises a second error, and the current stream stays that of the capture.
"""

from types import SimpleNamespace


class Stream:
    device = SimpleNamespace(type="cuda", index=0)


class Generator:
    def __init__(self, device=None):
        self.state, self.marked = 0, False

    def get_state(self):
        return self.state

    def set_state(self, state):
        self.state = state
        return self

    def graphsafe_get_state(self):
        return self

    def graphsafe_set_state(self, other):
        self.state, self.marked = other.state, other.marked


class Graph:
    def __init__(self):
        self.generators, self.ended, self.replays, self.was_reset = [], False, 0, False

    def register_generator_state(self, generator):
        self.generators.append(generator)

    def pool(self):
        if not self.ended:
            raise RuntimeError("Called CUDAGraph::pool() without a preceding successful capture.")

    def reset(self):
        self.was_reset = True

    def replay(self):
        self.replays += 1


class Pretended:
    """The names that `limner.training.graphs` uses of torch.

    `breaks` is the number of captures to come that do not end.
    """

    def __init__(self):
        self.default, self.present, self.breaks = Generator(), "present", 0
        self.recording, self.released, self.graphs = [], [], []
        self.Generator = Generator
        self.zeros = lambda *_, **__: None
        self._C = SimpleNamespace(
            _cuda_endAllocateToPool=lambda device, pool: self.recording.remove(pool),
            _cuda_releasePool=lambda device, pool: self.released.append(pool),
        )
        self.cuda = SimpleNamespace(
            CUDAGraph=self.new_graph,
            graph_pool_handle=object,
            current_stream=lambda device: self.present,
            set_stream=lambda stream: setattr(self, "present", stream),
            default_generators=(self.default,),
            graph=lambda *arguments, **_: Capture(self, *arguments),
        )

    def new_graph(self):
        self.graphs.append(Graph())
        return self.graphs[-1]


class Capture:
    def __init__(self, torch, graph, pool, stream):
        self.torch, self.graph, self.pool, self.stream = torch, graph, pool, stream

    def __enter__(self):
        self.before, self.torch.present = self.torch.present, self.stream
        self.torch.recording.append(self.pool)
        self.used = [*self.graph.generators, self.torch.default]
        for generator in self.used:
            generator.marked = True

    def __exit__(self, *_):
        if self.torch.breaks:
            self.torch.breaks -= 1
            raise RuntimeError("CUDA error: operation failed due to a previous error")
        self.torch.recording.remove(self.pool)
        for generator in self.used:
            generator.marked = False
        self.graph.ended, self.torch.present = True, self.before
