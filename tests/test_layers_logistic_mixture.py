"""The mixture of discretized logistics: masses, mean and samples agree, for several channels."""

import math

import pytest
import torch
from torch.testing import assert_close

from limner.layers.levels import clipped_mean
from limner.layers.logistic_mixture import COMPONENTS, DiscretizedLogisticMixture
from limner.layers.observation import DiscretizedLogistic

LEVELS = torch.arange(256, dtype=torch.float64) / 255
FLOOR = math.log(0.25 / 256)
LEVEL = 1 / 255
EXTREME = (-1e4, -50.0, 30.0, 1e4)


def canvas(channels, generator, n=1, size=(1, 1), log_scale=-3.0):
    """Random maps, with locations in and around [0, 1] and scales from the floor upwards."""
    count = DiscretizedLogisticMixture.maps(channels)
    maps = torch.randn(n, count, *size, generator=generator, dtype=torch.float64)
    first = COMPONENTS * (1 + channels)
    maps[:, first : first + COMPONENTS * channels] += log_scale
    return maps


def parameters(pixel, channels):
    """w_k, m_kc, s_kc and a_kcj of the maps of one pixel, by the formulas."""
    k, c = COMPONENTS, channels
    logits, location, log_scale, coefficient = pixel.split([k, k * c, k * c, k * c * (c - 1) // 2])
    weight = logits.exp() / logits.exp().sum()
    scale = (FLOOR + (1 + (log_scale - FLOOR).exp()).log()).exp()
    triangle = torch.zeros(k, c, c, dtype=torch.float64)
    rows, columns = torch.tril_indices(c, c, -1)
    triangle[:, rows, columns] = coefficient.tanh().view(k, -1)
    return weight, (1 + location.view(k, c)) / 2, scale.view(k, c), triangle


def masses(location, scale):
    """Masses of the 256 levels, in a last dimension."""
    below = torch.sigmoid(((LEVELS[1:] - LEVEL / 2) - location[..., None]) / scale[..., None])
    ends = torch.zeros_like(below[..., :1]), torch.ones_like(below[..., :1])
    return torch.cat([below, ends[1]], -1) - torch.cat([ends[0], below], -1)


def by_hand(pixel, levels):
    """p of one pixel with these levels 0..255, one channel after the other."""
    weight, m, s, a = parameters(pixel, len(levels))
    x, total = [level / 255 for level in levels], 0.0
    for k in range(COMPONENTS):
        product = weight[k]
        for c, level in enumerate(levels):
            given = m[k, c] + sum(a[k, c, j] * (x[j] - 0.5) for j in range(c))
            product = product * masses(given, s[k, c])[level]
        total += product
    return total


def joint(weight, m, s, a):
    """Masses [10, 256, 256] of the levels of the first two channels with each component."""
    given = m[:, 1, None] + a[:, 1, 0, None] * (LEVELS - 0.5)
    second = masses(given, s[:, 1, None].expand_as(given))
    return (weight[:, None] * masses(m[:, 0], s[:, 0]))[..., None] * second


@pytest.mark.parametrize(("channels", "maps"), [(1, 30), (2, 60), (3, 100), (4, 150)])
def test_masses_are_those_of_the_formulas(channels, maps, generator):
    pixels = canvas(channels, generator, n=3, size=(1, 2))
    assert pixels.shape[1] == maps
    levels = torch.randint(256, (3, channels, 1, 2), generator=generator)
    levels[0, 0], levels[1, -1] = 0, 255
    found = DiscretizedLogisticMixture(pixels).log_prob(levels / 255.0)
    for n in range(3):
        p = [by_hand(pixels[n, :, 0, i], levels[n, :, 0, i].tolist()) for i in range(2)]
        assert_close(found[n], torch.stack(p).log().sum())


SCALES = pytest.mark.parametrize("log_scale", [-20.0, -3.0, 0.0])


@SCALES
@pytest.mark.parametrize("channels", [1, 2])
def test_masses_sum_to_one(channels, log_scale, generator):
    x = torch.cartesian_prod(*[LEVELS] * channels).view(-1, channels, 1, 1)
    pixel = canvas(channels, generator, log_scale=log_scale).expand(len(x), -1, -1, -1)
    log_p = DiscretizedLogisticMixture(pixel).log_prob(x)
    assert_close(log_p.exp().sum().item(), 1.0)
    if channels == 2:
        assert_close(log_p.exp().view(256, 256), joint(*parameters(pixel[0, :, 0, 0], 2)).sum(0))


@SCALES
def test_the_mean_of_one_channel_is_that_of_its_masses(log_scale, generator):
    pixels = canvas(1, generator, n=20, log_scale=log_scale)
    expected = []
    for pixel in pixels[:, :, 0, 0]:
        weight, m, s, _ = parameters(pixel, 1)
        expected.append(weight @ masses(m[:, 0], s[:, 0]) @ LEVELS)
    found = DiscretizedLogisticMixture(pixels).mean.flatten()
    assert_close(found, torch.stack(expected), atol=0.03 * LEVEL, rtol=0)


@SCALES
def test_the_mean_of_three_channels_is_that_of_their_masses(log_scale, generator):
    """The third channel by the closed form, given every pair of levels of the first two."""
    pixel = canvas(3, generator, log_scale=log_scale)
    weight, m, s, a = parameters(pixel[0, :, 0, 0], 3)
    p = joint(weight, m, s, a)
    third = m[:, 2, None, None] + a[:, 2, 0, None, None] * (LEVELS[:, None] - 0.5)
    third = clipped_mean(third + a[:, 2, 1, None, None] * (LEVELS - 0.5), s[:, 2, None, None])
    expected = [p.sum((0, 2)) @ LEVELS, p.sum((0, 1)) @ LEVELS, (p * third).sum()]
    found = DiscretizedLogisticMixture(pixel).mean.flatten()
    assert_close(found, torch.stack(expected), atol=0.2 * LEVEL, rtol=0)


@SCALES
def test_samples_follow_the_masses(log_scale, generator):
    pixel, n = canvas(2, generator, log_scale=log_scale), 20_000
    p = joint(*parameters(pixel[0, :, 0, 0], 2)).sum(0)
    observation = DiscretizedLogisticMixture(pixel.expand(n, -1, -1, -1))
    x = observation.sample(generator)
    assert_close(x * 255, (x * 255).round())
    first, second = x[:, 0, 0, 0], x[:, 1, 0, 0]
    for drawn, expected in (
        (first, p.sum(1) @ LEVELS),
        (second, p.sum(0) @ LEVELS),
        (first * second, LEVELS @ p @ LEVELS),
        ((first - second).square(), (p * (LEVELS[:, None] - LEVELS).square()).sum()),
        (observation.log_prob(x), p.xlogy(p).sum()),
    ):
        assert (drawn.mean() - expected).abs() < 4 * drawn.std() / n**0.5


def test_the_mean_of_samples_is_the_mean_for_four_channels(generator):
    pixels, n = canvas(4, generator, size=(3, 2)), 4000
    x = DiscretizedLogisticMixture(pixels.expand(n, -1, -1, -1)).sample(generator)
    difference = x.mean(0) - DiscretizedLogisticMixture(pixels).mean[0]
    assert ((difference / x.std(0)).abs() < 4 / n**0.5).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_for_extreme_canvases(dtype):
    rows = torch.cartesian_prod(*[torch.tensor(EXTREME, dtype=dtype)] * 4)
    sizes = [COMPONENTS * part for part in (1, 2, 2, 1)]
    maps = [row[:, None].expand(-1, size) for row, size in zip(rows.T, sizes, strict=True)]
    pixels = torch.cat(maps, 1)[..., None, None].requires_grad_()
    for x in torch.cartesian_prod(*[torch.tensor([0.0, 128 / 255, 1.0], dtype=dtype)] * 2):
        observation = DiscretizedLogisticMixture(pixels)
        log_p = observation.log_prob(x[:, None, None].expand(len(pixels), -1, -1, -1))
        values = (log_p, observation.mean, observation.drawing(pixels, 2))
        (gradient,) = torch.autograd.grad(sum(value.sum() for value in values), pixels)
        assert all(value.isfinite().all() for value in (*values, gradient, observation.sample()))


def test_a_drawing_is_the_mean_of_narrow_components(generator):
    pixels = canvas(3, generator, n=50, log_scale=-9.0)
    pixels[:, COMPONENTS : 4 * COMPONENTS].mul_(0.1)
    pixels[:, 0] += 50  # one component
    drawing = DiscretizedLogisticMixture.drawing(pixels, 3)
    mean = DiscretizedLogisticMixture(pixels).mean
    assert mean.std() > 0.05
    assert_close(drawing, mean, atol=0.01, rtol=0)


def test_a_drawing_has_a_gradient_where_locations_leave_the_image():
    """Location -0.25, 0.25 below black."""
    pixels = torch.zeros(1, 30, 1, 1)
    pixels[:, COMPONENTS : 2 * COMPONENTS] = -1.5
    pixels.requires_grad_()
    drawing = DiscretizedLogisticMixture.drawing(pixels, 1)
    drawing.sum().backward()
    assert 0 < drawing < 0.01
    assert pixels.grad[:, COMPONENTS : 2 * COMPONENTS].min() > 1e-3


@pytest.mark.parametrize("n", [1, 7, 400])
def test_components_start_over_the_values_of_each_pixel(n, generator):
    """Pixels are dark red or light blue: a single logistic per channel has to cover both."""
    kinds = torch.tensor([[0.5, 0.1, 0.1], [0.6, 0.7, 0.9]], dtype=torch.float64)
    chosen = torch.randint(2, (n, 2, 4), generator=generator)
    images = (kinds[chosen].movedim(-1, 1) * 255).round() / 255
    start = DiscretizedLogisticMixture.initial_canvas(images)[None]
    observation = DiscretizedLogisticMixture(start.expand(n, -1, -1, -1))
    single = DiscretizedLogistic(DiscretizedLogistic.initial_canvas(images)[None])
    assert_close(observation.mean[0], images.mean(0), atol=0.02 if n > 10 else 0.1, rtol=0)
    if n > 10:
        assert observation.log_prob(images).mean() > single.log_prob(images).mean() + 10
