"""The LSTM cell against torch's."""

import torch
from torch import nn
from torch.testing import assert_close

from limner.layers.recurrent import LSTMCell, LSTMState, lstm


def test_cell_equals_torchs(generator):
    cell, oracle = LSTMCell(3, 4).double(), nn.LSTMCell(3, 4).double()
    with torch.no_grad():
        oracle.weight_ih.copy_(cell.weight[:, :3])
        oracle.weight_hh.copy_(cell.weight[:, 3:])
        oracle.bias_ih.copy_(cell.bias)
        oracle.bias_hh.zero_()
    x = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    h, c = torch.randn(2, 2, 4, generator=generator, dtype=torch.float64)
    assert_close(tuple(cell([x], LSTMState(h, c))), oracle(x, (h, c)))
    alone = cell([x[:1], x[:1, :0]], LSTMState(h[:1], c[:1]))  # one row, and an input of no width
    assert_close(tuple(alone), oracle(x[:1], (h[:1], c[:1])))


def test_gradients_of_a_step(generator):
    gates = torch.randn(2, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    c = torch.randn(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lstm, (gates, c))
    assert torch.autograd.gradcheck(lstm, (gates, c[:1]))  # one state for all images
    assert torch.autograd.gradgradcheck(lstm, (gates, c))
    assert torch.autograd.gradgradcheck(lstm, (gates, c[:1]))


def test_forget_gates_start_open_from_a_learned_state():
    cell = LSTMCell(3, 4)
    assert_close(cell.bias[4:8], torch.ones(4))
    assert not torch.equal(cell.bias[:4], torch.ones(4))
    with torch.no_grad():
        cell.h_0.fill_(0.5)
        cell.c_0.fill_(2.0)
    state = cell.initial(3)
    assert_close(tuple(state), (torch.full((3, 4), 0.5), torch.full((3, 4), 2.0)))
    assert {"h_0", "c_0"} <= dict(cell.named_parameters()).keys()
