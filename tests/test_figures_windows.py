"""Windows are drawn at the model's centre, stride and sigma, exact to the pixel."""

import numpy as np
import pytest
import torch

from limner.figures import scenes
from limner.figures.style import CASING_RGB, READ, READ_RGB, WRITE, WRITE_RGB
from limner.figures.windows import (
    LINES,
    THINNEST,
    Rectangle,
    coverage,
    dash_gaps,
    draw_windows,
    outline,
    rectangle,
)
from limner.layers.attention import Window
from limner.models import build
from test_figures import COLOUR, CONFIGS


def window(x, y, stride, sigma=1.0):
    center, one = torch.tensor([[[x, y]]]), torch.ones(1, 1)
    return Window(center, stride * one, sigma * one, one)


def sampled_outline(edges, shape, factor, dashed=False, casing=0.0, fine=40):
    """Opacity by counting sample points, with no separable areas."""
    height, width = shape
    y = 0.5 + (np.arange(height * factor * fine) + 0.5) / (factor * fine)
    x = 0.5 + (np.arange(width * factor * fine) + 0.5) / (factor * fine)
    half = max(min(edges.line, max(shape) / LINES), THINNEST / factor) / 2 + casing
    x, y = x[None], y[:, None]
    inside_x, inside_y = (x - edges.left + half) > 0, (y - edges.top + half) > 0
    outer = inside_x & inside_y & (x < edges.right + half) & (y < edges.bottom + half)
    hole = (x > edges.left + half) & (x < edges.right - half)
    hole = hole & (y > edges.top + half) & (y < edges.bottom - half)
    line = outer & ~hole
    for low, high, place in ((edges.left, edges.right, x), (edges.top, edges.bottom, y)):
        for start, stop in dash_gaps(low, high, max(shape)) if dashed else ():
            line = line & ~((place > start + casing) & (place < stop - casing))
    points = line.reshape(height * factor, fine, width * factor, fine)
    return points.mean((1, 3))


def test_the_rectangle_spans_the_first_to_the_last_filter_mean():
    edges = rectangle(window(5.0, 4.0, 1.5), size=4)
    means = 5.0 + (np.arange(1, 5) - 4 / 2 - 0.5) * 1.5
    assert (edges.left.item(), edges.right.item()) == (means[0], means[-1])
    assert (edges.top.item(), edges.bottom.item()) == (4 - 2.25, 4 + 2.25)


def test_lines_widen_with_sigma_up_to_a_limit():
    black = np.zeros((1, 1, 28, 28, 3), np.uint8)
    widths = []
    for sigma in (0.1, 1.0, 3.0, 100.0, 1000.0):
        drawn = draw_windows(black, window(14.0, 14.0, 5.0, sigma), 3, (255, 255, 255), factor=8)
        widths.append(drawn[0, 0, 112, :112, 0].sum() / 255 / 8)
    assert (np.diff(widths[:4]) > 0).all()
    assert widths[-1] == pytest.approx(widths[-2]) == pytest.approx(28 / LINES)


def test_pixels_are_numbered_from_one_and_cover_half_a_pixel_to_either_side():
    assert coverage(2.5, 3.5, length=4, factor=1).tolist() == [0, 0, 1, 0]
    assert coverage(2.0, 3.0, length=4, factor=2).tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    assert coverage(-9.0, 0.75, length=2, factor=2).tolist() == [0.5, 0, 0, 0]


def test_a_window_on_whole_pixels_fills_exactly_its_pixels():
    edges = Rectangle(*map(np.asarray, (2.0, 5.0, 3.0, 4.0, 1.0)))
    opacity = outline(edges, (6, 7), factor=2)
    wanted = np.zeros((12, 14))
    wanted[4:8, 2:10] = 1
    np.testing.assert_array_equal(opacity, wanted)


@pytest.mark.parametrize(
    "edges",
    [
        (2.3, 5.9, 1.7, 4.2, 0.6),
        (-3.0, 4.0, 2.0, 99.0, 1.1),
        (3.2, 3.2, 2.6, 2.6, 0.8),
        (2.0, 2.5, 1.0, 5.0, 1.0),
        (2.1, 4.4, 2.2, 3.9, 0.0),
    ],
)
@pytest.mark.parametrize(("dashed", "casing"), [(False, 0.0), (True, 0.0), (True, 0.2)])
def test_opacity_is_the_area_that_the_line_covers(edges, dashed, casing):
    edges = Rectangle(*map(np.asarray, edges))
    expected = sampled_outline(edges, (6, 7), 3, dashed, casing)
    np.testing.assert_allclose(outline(edges, (6, 7), 3, dashed, casing), expected, atol=0.03)


@pytest.mark.parametrize(("length", "gaps"), [(0.0, 1), (14.0, 1), (21.0, 2), (28.0, 3)])
def test_dashes_begin_at_both_corners_and_are_as_long_as_gaps(length, gaps):
    found = np.array(dash_gaps(3.0, 3.0 + length, longest=28.0))
    assert len(found) == gaps
    parts = np.diff([3.0, *found.flatten(), 3.0 + length])
    np.testing.assert_allclose(parts, length / (2 * gaps + 1))


def test_one_filter_makes_a_square_around_its_mean():
    black = np.zeros((1, 1, 8, 9, 3), np.uint8)
    drawn = draw_windows(black, window(4.0, 6.0, 5.0, sigma=2.8), 1, (255, 255, 255), factor=10)
    opacity = drawn[0, 0, ..., 0] / 255  # a casing does not show on black
    rows, columns = np.nonzero(opacity)
    center = ((columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2)
    assert center == ((4.0 - 0.5) * 10, (6.0 - 0.5) * 10)
    assert opacity.sum() == pytest.approx(100 * (9 / LINES) ** 2, rel=0.02)


def test_a_window_beyond_the_image_leaves_it_as_it_is():
    images = np.full((1, 1, 4, 4, 3), 9, np.uint8)
    drawn = draw_windows(images, window(40.0, 2.0, 1.0), 3, (255, 0, 0), factor=2)
    assert (drawn == 9).all()


DEFICIENCIES = {
    "protanopia": [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216,
                   -0.003882, -0.048116, 1.051998],
    "deuteranopia": [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413,
                     -0.011820, 0.042940, 0.968881],
    "tritanopia": [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602,
                   0.004733, 0.691367, 0.303900],
}  # fmt: skip
"""Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB."""


def linear(rgb):
    levels = np.asarray(rgb) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def luminance(rgb):
    return linear(rgb) @ [0.2126, 0.7152, 0.0722]


def contrast(a, b):
    """The ratio of WCAG 2, from 1 to 21."""
    ratio = (luminance(a) + 0.05) / (luminance(b) + 0.05)
    return np.maximum(ratio, 1 / ratio)


def lab(rgb):
    """CIE 1976 L*a*b* of linear RGB under D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.clip(xyz @ rgb / xyz.sum(1), 0.0089, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_windows_differ_for_every_kind_of_colour_vision(deficiency):
    seen = np.reshape(DEFICIENCIES[deficiency], (3, 3))
    reading, writing = (lab(np.clip(seen @ linear(rgb), 0, 1)) for rgb in (READ_RGB, WRITE_RGB))
    assert np.linalg.norm(reading - writing) > 80, "red and green: 13 to 28"


@pytest.mark.parametrize("dashed", [False, True])
@pytest.mark.parametrize("ground", [0, 64, 128, 192, 255])
def test_windows_stand_out_on_every_ground(ground, dashed):
    """Whatever its place between pixels, an edge has a pixel of three times the contrast."""
    colour = WRITE_RGB if dashed else READ_RGB
    images = np.full((1, 1, 12, 12, 3), ground, np.uint8)
    for shift in (0.0, 0.1, 0.17, 0.25):
        one = window(6.5 + shift, 6.5 + shift, 2.0, sigma=0.1)
        drawn = draw_windows(images, one, 5, colour, 3, dashed)[0, 0]
        assert contrast(drawn[7:10, :14], (ground,) * 3).max(1).min() >= 3
        assert contrast(drawn[:14, 7:10], (ground,) * 3).max(0).min() >= 3


def test_only_the_writing_window_has_gaps():
    black = np.zeros((1, 1, 28, 28, 3), np.uint8)
    for dashed, gaps in ((False, 0), (True, 1)):
        drawn = draw_windows(black, window(14.0, 14.0, 2.0), 5, (255, 255, 255), 4, dashed)
        columns = np.flatnonzero(drawn[0, 0, :40, :, 0].any(0))
        top = drawn[0, 0, 4 * 10 - 4 : 4 * 10, columns[0] : columns[-1] + 1, 0].max(0) > 0
        assert np.count_nonzero(np.diff(top.astype(int)) == -1) == gaps


def test_colours_in_films_are_those_of_figures():
    for colour, rgb in ((READ, READ_RGB), (WRITE, WRITE_RGB)):
        assert tuple(bytes.fromhex(colour[1:])) == rgb


def found_edges(drawn, plain, factor):
    """Left, right, top, bottom of the casing that was drawn, in pixels numbered from 1."""
    drawn, plain = drawn[..., 1].astype(float), plain[..., 1].astype(float)
    opacity = (drawn - plain) / (CASING_RGB[1] - plain)
    edges = []
    for profile in (opacity.max(0), opacity.max(1)):
        touched = np.flatnonzero(profile > 0.005)
        edges.append(touched[0] + 1 - profile[touched[0]])
        edges.append(touched[-1] + profile[touched[-1]])
    return [0.5 + edge / factor for edge in edges]


@pytest.mark.parametrize("kind", ["attention", "colour"])
def test_films_show_the_windows_of_the_generation(kind):
    """Images are drawn again without windows; what differs is the window, read off the pixels."""
    config = COLOUR if kind == "colour" else CONFIGS["attention"]
    shape, factor = ((3, 14, 20) if kind == "colour" else (1, 20, 14)), 12
    torch.manual_seed(3)
    model = build(config, shape).eval()
    with torch.no_grad():  # windows of half the image, somewhere in it, of their own at every step
        model.heads.bias[-10:] = torch.tensor([0.1, -0.05, -1.0, -0.9, 0.0] * 2)
        model.heads.weight[-10:] *= 3
    gen = model.generate(3, torch.Generator().manual_seed(5))
    film = scenes.generation_film(model, 3, torch.Generator().manual_seed(5), factor)
    plain = np.stack([scenes.to_rgb(model.observe(canvas).mean) for canvas in gen.canvases])
    plain = plain.repeat(factor, axis=2).repeat(factor, axis=3)
    edges = rectangle(gen.windows.write, config.write_size)
    for step in range(config.num_steps):
        for k in range(3):
            one = [float(field[step, k]) for field in edges]
            wanted = np.array(one[:4]) + np.array([-1, 1, -1, 1]) * (one[4] / 2 + 0.25)
            height, width = shape[1:]
            assert wanted.min() > 0.5
            assert wanted[1] < width + 0.5
            assert wanted[3] < height + 0.5
            got = found_edges(film.panels[0][step, k], plain[step, k], factor)
            np.testing.assert_allclose(got, wanted, atol=0.005)


def test_reading_is_blue_on_the_image_and_writing_orange_on_the_canvas():
    torch.manual_seed(0)
    model = build(CONFIGS["attention"], (1, 12, 12)).eval()
    film = scenes.explanation_film(model, torch.zeros(1, 1, 12, 12), magnification=8)
    image, canvas = (panel[0, 0] for panel in film.panels)
    assert (image == READ_RGB).all(-1).any()
    assert not (image == WRITE_RGB).all(-1).any()
    assert (canvas == WRITE_RGB).all(-1).any()
