"""The recurrent cell of DRAW: a long short-term memory with one matrix product a step."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LSTMState(NamedTuple):
    """Output h and memory c of an LSTM, both [batch, hidden]."""

    h: Float[Tensor, "batch hidden"]
    c: Float[Tensor, "batch hidden"]


def lstm(gates: Float[Tensor, "batch four_hidden"], c: Float[Tensor, "#batch hidden"]) -> LSTMState:
    """One step of an LSTM without peepholes from its summed pre-activations (i, f, g, o)."""
    i, f, g, o = gates.chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return LSTMState(torch.sigmoid(o) * torch.tanh(c), c)


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
