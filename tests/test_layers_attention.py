"""Attention against nested loops that follow equations 19 to 29 of Gregor et al. (2015)."""

import math

import pytest
import torch
from torch.testing import assert_close

from limner.layers import attention

CASES = [  # filters a side, channels, height, width
    (1, 1, 4, 5),
    (2, 1, 5, 3),
    (3, 3, 4, 7),
    (4, 2, 6, 6),
    (5, 1, 1, 6),
]


def random_params(generator, *batch):
    return torch.randn(*batch, 5, generator=generator, dtype=torch.float64) * 0.7


def filters_by_loops(params, N, B, A):
    """F_Y, F_X and gamma of one image of height B and width A, pixels and filters from 1."""
    g_tilde_X, g_tilde_Y, log_var, log_delta_tilde, log_gamma = params.tolist()
    g_X = (A + 1) / 2 * (g_tilde_X + 1)  # 22
    g_Y = (B + 1) / 2 * (g_tilde_Y + 1)  # 23
    spacing = (max(A, B) - 1) / (N - 1) if N > 1 else max(A, B) - 1
    delta = spacing * math.exp(log_delta_tilde)  # 24
    var = math.exp(log_var)

    def rows(g, length):
        F = torch.zeros(N, length, dtype=torch.float64)
        for i in range(1, N + 1):
            mu = g + (i - N / 2 - 0.5) * delta  # 19, 20
            for a in range(1, length + 1):
                F[i - 1, a - 1] = math.exp(-((a - mu) ** 2) / (2 * var))  # 25, 26
            Z = sum(F[i - 1].tolist())
            F[i - 1] /= Z
        return F

    window = ((g_X, g_Y), delta, math.sqrt(var), math.exp(log_gamma))
    return rows(g_Y, B), rows(g_X, A), window


def read_by_loops(image, F_Y, F_X, gamma):
    """Equation 27, one of its two patches."""
    (C, B, A), N = image.shape, len(F_Y)
    patch = torch.zeros(C, N, N, dtype=torch.float64)
    for c in range(C):
        for j in range(N):
            for i in range(N):
                for b in range(B):
                    for a in range(A):
                        patch[c, j, i] += gamma * F_Y[j, b] * image[c, b, a] * F_X[i, a]
    return patch


def write_by_loops(patch, F_Y, F_X, gamma):
    """Equation 29."""
    (C, N, _), B, A = patch.shape, F_Y.shape[1], F_X.shape[1]
    image = torch.zeros(C, B, A, dtype=torch.float64)
    for c in range(C):
        for b in range(B):
            for a in range(A):
                for j in range(N):
                    for i in range(N):
                        image[c, b, a] += F_Y[j, b] * patch[c, j, i] * F_X[i, a] / gamma
    return image


@pytest.mark.parametrize(("N", "C", "B", "A"), CASES)
def test_window_filterbank_read_and_write_equal_the_loops(generator, N, C, B, A):
    params = random_params(generator, 3)
    images = torch.rand(3, C, B, A, generator=generator, dtype=torch.float64)
    patches = torch.randn(3, C, N, N, generator=generator, dtype=torch.float64)
    window = attention.window(params, N, (B, A))
    F_y, F_x = attention.filterbank(window, N, (B, A))
    read = attention.read(images, F_y, F_x, window.gamma)
    written = attention.write(patches, F_y, F_x, window.gamma)
    for n in range(3):
        F_Y, F_X, (center, delta, sigma, gamma) = filters_by_loops(params[n], N, B, A)
        assert_close(window.center[n].tolist(), list(center))
        assert_close(window.stride[n].item(), delta)
        assert_close(window.sigma[n].item(), sigma)
        assert_close(window.gamma[n].item(), gamma)
        assert_close(F_y[n], F_Y)
        assert_close(F_x[n], F_X)
        assert_close(read[n], read_by_loops(images[n], F_Y, F_X, gamma))
        assert_close(written[n], write_by_loops(patches[n], F_Y, F_X, gamma))


def test_leading_dimensions_are_kept(generator):
    params = random_params(generator, 2, 3)
    images = torch.rand(2, 3, 1, 4, 5, generator=generator, dtype=torch.float64)
    window = attention.window(params, 2, (4, 5))
    F_y, F_x = attention.filterbank(window, 2, (4, 5))
    inner = attention.window(params[1], 2, (4, 5))
    assert_close(F_y[1], attention.filterbank(inner, 2, (4, 5))[0])
    patch = attention.read(images, F_y, F_x, window.gamma)
    assert patch.shape == (2, 3, 1, 2, 2)
    assert attention.write(patch, F_y, F_x, window.gamma).shape == images.shape


@pytest.mark.parametrize("N", [1, 2, 5])
@pytest.mark.parametrize("shape", [(4, 3), (4, 4)])
def test_gradients_of_reading_and_writing(generator, N, shape):
    def read_then_write(params, images):
        window = attention.window(params, N, shape)
        F_y, F_x = attention.filterbank(window, N, shape)
        patch = attention.read(images, F_y, F_x, window.gamma)
        return patch, attention.write(patch.tanh(), F_y, F_x, window.gamma)

    params = random_params(generator, 2).requires_grad_()
    images = torch.rand(2, 2, *shape, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(read_then_write, (params, images))


@pytest.mark.parametrize("row", range(5))
@pytest.mark.parametrize("value", [-40.0, 40.0])
def test_rows_sum_to_one_with_finite_gradients_wherever_the_window_lies(row, value):
    params = torch.zeros(1, 5)
    params[0, row] = value
    params.requires_grad_()
    F_y, F_x = attention.filterbank(attention.window(params, 3, (6, 4)), 3, (6, 4))
    for F in (F_y, F_x):
        assert_close(F.sum(-1), torch.ones(1, 3))
    (F_y[..., 0].sum() + F_x[..., 0].sum()).backward()
    assert params.grad.isfinite().all()


@pytest.mark.parametrize("writing", [False, True])
@pytest.mark.parametrize("N", [2, 5])
def test_covering_params_lay_the_window_over_the_whole_image(N, writing):
    window = attention.window(attention.covering_params(N, (9, 9), writing), N, (9, 9))
    assert_close(window.center, torch.tensor([5.0, 5.0]))
    assert_close(window.stride * (N - 1), torch.tensor(8.0))  # means from pixel 1 to pixel 9
    assert_close(window.sigma, window.stride / 2)


def test_covering_intensities_undo_the_normalisation_of_the_filters():
    shape, N = (65, 65), 9
    reading = attention.window(attention.covering_params(N, shape, False)[None], N, shape)
    F_y, F_x = attention.filterbank(reading, N, shape)
    middle = reading.gamma * F_y[0, N // 2].norm() * F_x[0, N // 2].norm()
    assert_close(middle, torch.ones(1), atol=1e-3, rtol=0)
    writing = attention.window(attention.covering_params(N, shape, True)[None], N, shape)
    painted = attention.write(torch.ones(1, 1, N, N), F_y, F_x, writing.gamma)
    assert_close(painted[..., 32, 32], torch.ones(1, 1), atol=0.05, rtol=0)
