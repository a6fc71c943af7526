"""Films: frames, GIFs, strips and sprites of every model."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from limner.errors import InputError
from limner.evaluation.interpolation import spherical
from limner.figures import films, scenes
from limner.figures.groups import carried_means
from limner.pictures import to_rgb
from test_figures import CONFIGS, StandIn, dataset

FRAMES = {"vae": 24, "ladder": 3, "draw": 3, "attention": 4, "conv-ladder": 3, "conv-draw": 3}


@pytest.fixture
def moving():
    """Five frames of 12 x 20, a white square on its way."""
    frames = np.zeros((5, 12, 20, 3), np.uint8)
    for t in range(5):
        frames[t, 2:6, 3 * t : 3 * t + 4] = 255
    return frames


def test_a_gif_has_every_frame_in_order_and_holds_the_last(moving, tmp_path):
    path = films.save_gif(moving, tmp_path / "moving.gif", seconds=1.0, hold=2.0)
    with Image.open(path) as gif:
        assert gif.n_frames == 5
        assert gif.info["loop"] == 0
        durations = []
        for t in range(5):
            gif.seek(t)
            durations.append(gif.info["duration"])
            assert (np.asarray(gif.convert("RGB")) == moving[t]).all()
    assert durations == [200, 200, 200, 200, 2200]


def test_a_sprite_holds_the_frames_below_each_other(moving):
    with Image.open(io.BytesIO(films.sprite(moving))) as image:
        assert (np.asarray(image.convert("RGB")) == moving.reshape(60, 20, 3)).all()


def test_a_gif_that_cannot_be_written_is_told_in_a_sentence(moving, tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        films.save_gif(moving, tmp_path / "missing" / "moving.gif")


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_model_has_its_films(kind, tmp_path):
    subject = StandIn(kind).subject()
    made = scenes.generation_film(subject.model, 5, subject.generator(), 2)
    redrawn = scenes.explanation_film(subject.model, subject.x[:4], subject.generator(), 2)
    for film, count, panels in ((made, 5, 1), (redrawn, 4, 2)):
        assert len(film.panels) == len(film.panel_names) == panels
        assert all(panel.shape == (FRAMES[kind], count, 14, 18, 3) for panel in film.panels)
        assert len(film.captions) == FRAMES[kind]
        assert film.frames(columns=2).shape[0] == FRAMES[kind]
        rows = films.strip(film, images=2).axes[0].get_yticks()
        assert len(rows) == 2 * panels


@pytest.mark.parametrize(("steps", "shown"), [(4, "1 2 3 4"), (32, "2 4 6 8 10 12 14 16 18 20 22")])
def test_a_strip_shows_every_step_or_an_even_stride(steps, shown):
    panel = np.zeros((steps, 1, 4, 4, 3), np.uint8)
    captions = tuple(f"{k} of {steps}" for k in range(1, steps + 1))
    film = films.Film((panel,), ("canvas",), captions, "", "", "", "step")
    (axes,) = films.strip(film).axes
    headings = " ".join(tick.get_text() for tick in axes.get_xticklabels())
    assert headings.startswith(shown)
    assert headings.endswith(str(steps))
    assert axes.get_xlabel() == "step"


def test_the_last_frame_is_what_the_model_generates():
    subject = StandIn("draw").subject()
    film = scenes.generation_film(subject.model, 4, subject.generator(), magnification=1)
    images = subject.model.generate(4, subject.generator()).images
    assert (film.panels[0][-1] == to_rgb(images)).all()


def test_layers_end_at_the_reconstruction_and_start_at_the_top_alone():
    subject = StandIn("ladder").subject()
    model, x = subject.model, subject.x[:2]
    film = scenes.explanation_film(model, x, subject.generator(), magnification=1)
    with torch.no_grad():
        full = model.infer(x, subject.generator(), trace=True).observation.mean
    assert (film.panels[1][-1] == to_rgb(full)).all()
    assert (film.panels[0] == to_rgb(x)[None]).all()
    assert film.captions == ("z_3", "z_3–z_2", "z_3–z_1")


def test_walks_pass_the_images_and_return():
    subject = StandIn("vae").subject()
    model, x = subject.model, subject.x[:4]
    film = scenes.explanation_film(model, x, subject.generator(), magnification=1)
    with torch.no_grad():
        means = model.generate(4, latents=carried_means(model, x)).images
    for stop in range(4):
        frame = film.panels[1][stop * scenes.STEPS_BETWEEN]
        assert np.abs(frame.astype(int) - to_rgb(means.roll(-stop, 0))).max() <= 1
        original = film.panels[0][stop * scenes.STEPS_BETWEEN]
        assert (original == to_rgb(x.roll(-stop, 0))).all()


def test_great_circles_keep_lengths_and_meet_their_ends(generator):
    a = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    b = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    a, b = (2 * z / z.norm(dim=1, keepdim=True) for z in (a, b))
    for share in (0.0, 0.3, 1.0):
        place = spherical(a, b, share)
        torch.testing.assert_close(place.norm(dim=1), torch.full((6,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(spherical(a, b, 0.0), a)
    torch.testing.assert_close(spherical(a, b, 1.0), b)
    torch.testing.assert_close(spherical(a, a, 0.5), a)
    assert spherical(torch.zeros(1, 3), torch.zeros(1, 3), 0.5).isfinite().all()


def test_colour_images_that_are_not_square_have_films():
    subject = StandIn("colour", images=dataset((3, 6, 8), "none")).subject()
    film = scenes.explanation_film(subject.model, subject.x[:2], subject.generator(), 3)
    assert film.panels[0].shape == (3, 2, 18, 24, 3)
    assert np.ptp(film.panels[0], axis=-1).max() > 0
