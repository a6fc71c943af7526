"""The recurrent cell of DRAW: a long short-term memory with one matrix product a step."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import Function

sigmoid_backward = torch.ops.aten.sigmoid_backward.default
tanh_backward = torch.ops.aten.tanh_backward.default


class LSTMState(NamedTuple):
    """Output h and memory c of an LSTM, both [batch, hidden]."""

    h: Float[Tensor, "batch hidden"]
    c: Float[Tensor, "batch hidden"]


def lstm(gates: Float[Tensor, "batch four_hidden"], c: Float[Tensor, "#batch hidden"]) -> LSTMState:
    """One step of an LSTM without peepholes from its summed pre-activations (i, f, g, o)."""
    h, c = _LSTM.apply(gates, c.expand(len(gates), -1))
    return LSTMState(h, c)


class _LSTM(Function):
    """c' = f c + i g, h = o tanh(c') of gates i, f, o = sigmoid, g = tanh, and its gradient.

    With k = dc' + dh o (1 - tanh^2 c'): dc = k f, and the gates get k g, k c, k i and dh tanh c',
    each times the slope of its function. One node of the graph, where its parts would be eleven.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, _, o = torch.sigmoid(gates).chunk(4, dim=-1)
        g = _tanh(gates.chunk(4, dim=-1)[2])
        new = torch.addcmul(f * c, i, g)
        bounded = _tanh(new)
        ctx.save_for_backward(i, f, g, o, c, bounded)
        return o * bounded, new

    @staticmethod
    def backward(ctx: Any, of_h: Tensor, of_c: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        i, f, g, o, c, bounded = ctx.saved_tensors
        k = of_c + tanh_backward(of_h * o, bounded)
        of_gates = [
            sigmoid_backward(k * g, i),
            sigmoid_backward(k * c, f),
            tanh_backward(k * i, g),
            sigmoid_backward(of_h * bounded, o),
        ]
        return torch.cat(of_gates, dim=-1), k * f


def _tanh(x: Tensor) -> Tensor:
    """By way of a sigmoid, which a CPU takes several times faster, to a rounding of one."""
    return 2 * torch.sigmoid(2 * x) - 1


class LSTMCell(nn.Linear):
    """LSTM (Hochreiter and Schmidhuber 1997, with forget gates) with a learned initial state.

    The product with [inputs, h] is one matrix of [4 hidden, inputs + hidden]; the forget gates'
    biases start at 1.
    """

    def __init__(self, in_dim: int, hidden_dim: int):
        super().__init__(in_dim + hidden_dim, 4 * hidden_dim)
        self.hidden_dim = hidden_dim
        self.h_0 = nn.Parameter(torch.zeros(hidden_dim))
        self.c_0 = nn.Parameter(torch.zeros(hidden_dim))
        with torch.no_grad():
            self.bias[hidden_dim : 2 * hidden_dim] = 1.0

    def initial(self, batch: int) -> LSTMState:
        """The learned first state, for `batch` images."""
        return LSTMState(self.h_0.repeat(batch, 1), self.c_0.repeat(batch, 1))
