"""Observation models: they sum to one, and mean and sample agree with the density."""

import math

import pytest
import torch
from torch.testing import assert_close

from limner.layers.observation import OBSERVATIONS, bits_per_dim

LEVELS = torch.arange(256, dtype=torch.float64) / 255
MODERATE = {"bernoulli": [0.4], "gaussian": [0.3, -3.0], "discretized_logistic": [0.8, -1.5]}
NAMES = pytest.mark.parametrize("name", MODERATE)
EXTREME = [[m, s] for m in (-50.0, -3.0, 0.0, 50.0) for s in (-50.0, -4.0, 0.0, 30.0)]


def states(name):
    """Every value a pixel can take (a fine grid of them for a density) and each one's width."""
    if name == "bernoulli":
        return torch.tensor([0.0, 1.0], dtype=torch.float64), 1.0
    if name == "discretized_logistic":
        return LEVELS, 1.0
    return torch.arange(-1, 2, 1e-3, dtype=torch.float64), 1e-3


def one_pixel(name, canvas, values):
    """One pixel with this canvas, an image for each of `values`; and p at each."""
    canvas = torch.tensor(canvas, dtype=torch.float64).expand(len(values), -1)
    observation = OBSERVATIONS[name](canvas[..., None, None])
    return observation, observation.log_prob(values[:, None, None, None])


@pytest.mark.parametrize(
    ("name", "canvas"),
    [*MODERATE.items(), ("bernoulli", [-40.0]), ("bernoulli", [40.0]), ("gaussian", [-9.0, -5.0])]
    + [("discretized_logistic", canvas) for canvas in EXTREME],
)
def test_probabilities_sum_to_one(name, canvas):
    values, width = states(name)
    _, log_p = one_pixel(name, canvas, values)
    assert_close(log_p.exp().sum().item() * width, 1.0)


@NAMES
def test_samples_and_mean_agree_with_the_probabilities(name, generator):
    values, width = states(name)
    observation, log_p = one_pixel(name, MODERATE[name], values)
    p = log_p.exp() * width
    assert_close(observation.mean[0].item(), (p * values).sum().item())
    observation, _ = one_pixel(name, MODERATE[name], torch.zeros(50_000, dtype=torch.float64))
    x = observation.sample(generator)
    log_p = observation.log_prob(x)
    for drawn, expected in (
        (x.flatten(), (p * values).sum()),
        (log_p, (p * (p / width).log()).nan_to_num().sum()),  # minus the entropy
    ):
        stderr = drawn.std() / len(drawn) ** 0.5
        assert (drawn.mean() - expected).abs() < 4 * stderr
    assert ((x >= 0) & (x <= 1)).all()


@NAMES
def test_an_image_sums_over_its_pixels_with_the_mean_canvas_first(name, generator):
    canvases = OBSERVATIONS[name].maps(1)
    canvas = torch.randn(2, canvases * 3, 2, 4, generator=generator, dtype=torch.float64)
    x = torch.rand(2, 3, 2, 4, generator=generator, dtype=torch.float64).round()
    expected = torch.zeros(2, dtype=torch.float64)
    for n in range(2):
        for c in range(3):
            pixels = canvas[n, c::3].flatten(1).T  # of every pixel, its canvases
            for i, value in enumerate(x[n, c].flatten()):
                expected[n] += one_pixel(name, pixels[i].tolist(), value[None])[1][0]
    assert_close(OBSERVATIONS[name](canvas).log_prob(x), expected)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "discretized_logistic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_finite_in_the_tails(name, dtype):
    canvas = torch.tensor(EXTREME, dtype=dtype)[:, : OBSERVATIONS[name].maps(1), None, None]
    canvas = canvas.repeat(3, 1, 1, 1).requires_grad_()
    x = torch.tensor([0.0, 128 / 255, 1.0], dtype=dtype).repeat_interleave(len(EXTREME))
    if name == "bernoulli":
        x = x.round()
    log_p = OBSERVATIONS[name](canvas).log_prob(x[:, None, None, None])
    log_p.sum().backward()
    assert log_p.isfinite().all()
    assert canvas.grad.isfinite().all()


@NAMES
def test_the_initial_canvas_has_the_clipped_mean_of_the_images(name, generator):
    images = torch.rand(50, 2, 3, 4, generator=generator, dtype=torch.float64).round()
    images[:, :, 0, 0] = 0
    observation = OBSERVATIONS[name](OBSERVATIONS[name].initial_canvas(images)[None])
    location = observation.mean if name == "bernoulli" else observation.location
    assert_close(location[0], images.mean(0).clamp(0.01, 0.99))
    if name != "bernoulli":
        spread = images.std(0, correction=0).clamp_min(0.05)
        scale = spread * (1.0 if name == "gaussian" else 3**0.5 / torch.pi)
        assert_close(observation.log_scale[0], scale.log(), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("name", "nats", "bits"),
    [
        ("bernoulli", -math.log(2), 1.0),  # a fair coin
        ("discretized_logistic", -math.log(256), 8.0),  # every level alike
        ("discretized_logistic_mixture", -math.log(256), 8.0),
        ("gaussian", 0.0, 8.0),  # every level alike, as a density on [0, 1]
    ],
)
def test_bits_per_dim_of_what_knows_nothing(name, nats, bits):
    assert bits_per_dim(12 * nats, name, dims=12) == pytest.approx(bits)
    assert_close(bits_per_dim(torch.tensor([12 * nats]), name, 12), torch.tensor([bits]))


def test_bits_per_dim_of_a_gaussian_are_those_of_its_levels():
    centres = (torch.arange(256, dtype=torch.float64) + 0.5) / 256
    observation, log_p = one_pixel("gaussian", [0.2, -2.0], centres)
    normal = torch.distributions.Normal(observation.location, observation.log_scale.exp())
    below, above = ((centres + side / 512)[:, None, None, None] for side in (-1, 1))
    mass = (normal.cdf(above) - normal.cdf(below)).flatten()
    assert_close(bits_per_dim(log_p, "gaussian", 1), -mass.log2(), atol=1e-3, rtol=0)
