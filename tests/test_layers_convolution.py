"""Convolutions of any size, and the convolutional LSTM against nested loops."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from limner.layers.convolution import (
    ConvLSTMCell,
    Convolution,
    Down,
    GaussianMaps,
    ResidualBlock,
    Up,
    at_scale,
)
from limner.layers.recurrent import LSTMState


def maps(*shape):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def convolved(image, weight, bias):
    """One image [in, H, W] with a kernel [out, in, k, k], place by place."""
    (out, _, k, _), (_, height, width) = weight.shape, image.shape
    result = torch.zeros(out, height, width, dtype=image.dtype)
    for o, y, x in product(range(out), range(height), range(width)):
        total = bias[o].clone()
        for dy, dx in product(range(k), range(k)):
            row, column = y + dy - k // 2, x + dx - k // 2
            if 0 <= row < height and 0 <= column < width:
                total = total + weight[o, :, dy, dx] @ image[:, row, column]
        result[o, y, x] = total
    return result


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_lstm_equals_gates_place_by_place(kernel):
    cell = ConvLSTMCell(2, 3, kernel).double()
    inputs, h, c = maps(2, 2, 3, 4), maps(2, 3, 3, 4), maps(2, 3, 3, 4).flip(0)
    found = cell([inputs[:, :1], inputs[:, 1:]], LSTMState(h, c))
    for image in range(2):
        seen = torch.cat([inputs[image], h[image]])
        i, f, g, o = convolved(seen, cell.weight, cell.bias).chunk(4)
        memory = torch.sigmoid(f) * c[image] + torch.sigmoid(i) * torch.tanh(g)
        assert_close(found.c[image], memory)
        assert_close(found.h[image], torch.sigmoid(o) * torch.tanh(memory))


def test_lstm_starts_by_remembering():
    cell = ConvLSTMCell(1, 2)
    assert cell.bias[2:4].tolist() == [1, 1]


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (37, 53)], ids=str)
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_sizes_round_up_and_come_back(size, scale):
    x = maps(2, 3, *size)
    coarse = Down(3, 4, scale).double()(x)
    assert coarse.shape == (2, 4, *at_scale(size, scale))
    assert Up(4, 5, scale, size).double()(coarse).shape == (2, 5, *size)


def test_down_is_a_convolution_with_stride():
    down, x = Down(2, 3, scale=2, kernel=1).double(), maps(1, 2, 5, 4)
    weight = down.weight.unflatten(1, (2, 2, 2)).squeeze((-2, -1))
    expected = F.conv2d(F.pad(x, (0, 0, 0, 1)), weight, down.bias, stride=2)
    assert_close(down(x), expected)


def test_up_writes_each_cell_in_its_place():
    up, coarse = Up(1, 1, scale=2, size=(5, 3), kernel=1).double(), torch.zeros(1, 1, 3, 2)
    coarse = coarse.double().requires_grad_()
    for y, x in product(range(5), range(3)):
        (gradient,) = torch.autograd.grad(up(coarse)[0, 0, y, x], coarse)
        assert gradient.nonzero().tolist() == [[0, 0, y // 2, x // 2]]


def test_a_block_adds_to_its_input_and_keeps_images_independent():
    x, silent = maps(3, 4, 5, 2), ResidualBlock(4, "silu", share=0.0).double()
    assert_close(silent(x), x + silent.last.bias[:, None, None])
    block = ResidualBlock(4, "silu").double()
    assert not torch.equal(block(x), x)
    assert_close(block(x[1:2]), block(x)[1:2])


def test_gaussian_maps_hold_mu_then_log_sigma():
    head, x = GaussianMaps(2, 3).double(), maps(2, 2, 4, 4)
    mu, log_sigma = Convolution.forward(head, x).chunk(2, dim=1)
    assert_close(head(x).loc, mu)
    assert_close(head(x).scale, log_sigma.exp())
