"""The LSTM, and the recurrent cell of DRAW: an LSTM with one matrix product per step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import Function

from limner.layers.linear import Linear
from limner.layers.precision import full
from limner.transforms import transformed

sigmoid_backward = torch.ops.aten.sigmoid_backward.default
tanh_backward = torch.ops.aten.tanh_backward.default


class LSTMState(NamedTuple):
    """Output h and memory c of an LSTM, both [batch, hidden] or [batch, maps, height, width]."""

    h: Float[Tensor, "batch hidden *size"]
    c: Float[Tensor, "batch hidden *size"]


def lstm(
    gates: Float[Tensor, "batch four_hidden *size"], c: Float[Tensor, "#batch hidden *size"]
) -> LSTMState:
    """One step of an LSTM without peepholes, given its pre-activations (i, f, g, o).

    c' = f c + i g, h = o tanh(c') with i, f, o = sigmoid and g = tanh of the pre-activations.
    """
    rows = gates.shape[0]
    c = c if c.shape[0] == rows else c.expand(rows, *c.shape[1:])
    if not torch.compiler.is_compiling() and not transformed():
        return LSTMState(*_LSTM.apply(gates, c)[:2])
    i, f, g, o = gates.chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * _tanh(g)
    return LSTMState(torch.sigmoid(o) * _tanh(c), c)


class _LSTM(Function):
    """h, c', and what the gradient needs: the sigmoids of all gates, g and tanh(c').

    One node of the graph instead of eleven.

    With k = dc' + dh o (1 - tanh^2 c'): dc = k f, and the gradients of the gates are k g, k c, k i
    and dh tanh c', each times the slope of its function. `forward` also returns the tensors that
    the gradient uses, so that second derivatives can pass through them.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        sigmoids = torch.sigmoid(gates)
        i, f, _, o = sigmoids.chunk(4, dim=1)
        g = _tanh(gates.chunk(4, dim=1)[2])
        new = torch.addcmul(f * c, i, g)
        bounded = _tanh(new)
        ctx.save_for_backward(c, sigmoids, g, bounded)
        return o * bounded, new, sigmoids, g, bounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, Tensor]:
        c, sigmoids, g, bounded = ctx.saved_tensors
        of_h, of_new, of_sigmoids, of_g, of_bounded = gradients
        i, f, _, o = sigmoids.chunk(4, dim=1)
        of_h = torch.zeros_like(c) if of_h is None else of_h
        through = of_h * o if of_bounded is None else of_h * o + of_bounded
        k = tanh_backward(through, bounded)
        k = k if of_new is None else of_new + k
        of_i, of_f, of_o, of_tanh = k * g, k * c, of_h * bounded, k * i
        if of_sigmoids is not None:
            more_i, more_f, _, more_o = of_sigmoids.chunk(4, dim=1)
            of_i, of_f, of_o = of_i + more_i, of_f + more_f, of_o + more_o
        if of_g is not None:
            of_tanh = of_tanh + of_g
        of_gates = [
            sigmoid_backward(of_i, i),
            sigmoid_backward(of_f, f),
            tanh_backward(of_tanh, g),
            sigmoid_backward(of_o, o),
        ]
        return torch.cat(of_gates, dim=1), k * f


def _tanh(x: Tensor) -> Tensor:
    """tanh by a sigmoid, several times faster on a CPU. Absolute error: about one ulp of 1."""
    return 2 * torch.sigmoid(2 * x) - 1


class LSTMCell(Linear):
    """LSTM (Hochreiter and Schmidhuber 1997, with forget gates) with a learned initial state.

    One matrix [4 hidden, inputs + hidden] multiplies [inputs, h]. The biases of the forget gates
    start at 1.
    """

    def __init__(self, in_dim: int, hidden_dim: int):
        super().__init__(in_dim + hidden_dim, 4 * hidden_dim)
        self.hidden_dim = hidden_dim
        self.h_0 = nn.Parameter(torch.zeros(hidden_dim))
        self.c_0 = nn.Parameter(torch.zeros(hidden_dim))
        with torch.no_grad():
            self.bias[hidden_dim : 2 * hidden_dim] = 1.0

    def initial(self, batch: int) -> LSTMState:
        """The learned initial state for `batch` images."""
        return LSTMState(self.h_0.repeat(batch, 1), self.c_0.repeat(batch, 1))

    def forward(  # type: ignore[override]
        self, inputs: Sequence[Float[Tensor, "_batch _features"]], state: LSTMState
    ) -> LSTMState:
        """The next state. An input or state of one row is shared by all images."""
        parts = [*inputs, state.h]
        rows = max([part.shape[0] for part in parts])
        alike = [part if part.shape[0] == rows else part.expand(rows, -1) for part in parts]
        return lstm(full(super().forward(torch.cat(alike, dim=1))), state.c)
