"""The playground without a browser: drawings, answers, limits, the command."""

import asyncio
import base64
import io
import json
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import limner
from limner import extras
from limner.app import drawings, parts, server
from limner.app.answers import Answers
from limner.app.drawings import Drawing, as_mnist, as_seen, encoded, levels_of, read_drawing
from limner.app.panels import glimpses
from limner.app.player import Player, whole
from limner.cli import main
from limner.data import DataConfig, load
from limner.errors import InputError
from limner.models import build
from limner.pictures import to_rgb
from test_figures import CONFIGS, StandIn, dataset


def drawn(size=(280, 280), fit=True, erased=None):
    """A slanted stroke in white on black."""
    width, height = size
    picture = Image.new("RGB", size)
    ends = (0.3 * width, 0.2 * height, 0.6 * width, 0.7 * height)
    ImageDraw.Draw(picture).line(ends, fill="white", width=24)
    levels = np.asarray(picture)
    missing = np.zeros(levels.shape[:2], bool)
    if erased is not None:
        missing[erased:] = True
    return Drawing(levels, missing, fit)


def sent(drawing):
    """The drawing as the page sends it."""
    mask = np.repeat(drawing.erased[..., None], 3, axis=2).astype(np.uint8) * 255
    return {"picture": encoded(drawing.picture), "erased": encoded(mask), "fit": drawing.fit}


def opened(url):
    """The picture in a data URL."""
    with Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) as image:
        return np.asarray(image.convert("RGB"))


def player(kind):
    images = dataset((3, 6, 8), "none") if kind == "colour" else dataset()
    run = StandIn(kind, images=images)
    return Player(run, run.model())


def centre_and_box(images):
    """Centres of mass [n, 2] counted from 0, and longer sides of the box of the ink."""
    images = np.asarray(images, float)
    mass, places = images.sum((1, 2)), np.arange(images.shape[1])
    centre = [(images.sum(axis) * places).sum(1) / mass for axis in (2, 1)]
    sides = [(images > 0).any(axis).sum(1) for axis in (2, 1)]
    return np.stack(centre, 1), np.max(sides, axis=0)


def test_drawings_are_placed_as_the_digits_of_mnist_are():
    """What the code promises holds of the data: the centre at pixel 14, a box of 20."""
    digits = load(DataConfig()).test.levels[:200, 0]
    centre, side = centre_and_box(digits)
    assert np.abs(centre - 14).max() <= 0.5
    assert (side <= 20).all()
    assert (side == 20).mean() > 0.95
    shifted = [
        np.roll(np.asarray(drawn().picture[..., 0]), shift, (0, 1)) for shift in (-20, 0, 60)
    ]
    made = np.stack([as_mnist(ink) for ink in shifted])
    centre, side = centre_and_box(made)
    assert np.abs(centre - 14).max() <= 0.5 + 1e-6
    assert (side == 20).all()
    assert (made == made[0]).all()
    assert len(np.unique(made)) > 10  # antialiased


def test_a_digit_of_mnist_magnified_comes_back_as_it_was():
    digit = load(DataConfig()).test.levels[3, 0].numpy()
    large = np.repeat(digit.repeat(10, 0).repeat(10, 1)[..., None], 3, axis=2)
    nothing = np.zeros((280, 280), bool)
    same = levels_of(Drawing(large, nothing, fit=False), (1, 28, 28))
    np.testing.assert_array_equal(same[0, 0], digit)
    again = levels_of(Drawing(large, nothing, fit=True), (1, 28, 28))[0, 0].numpy()
    assert np.abs(again.astype(int) - digit).mean() < 3
    on_paper = levels_of(Drawing(255 - large, nothing, fit=True), (1, 28, 28))[0, 0].numpy()
    np.testing.assert_array_equal(on_paper, again)


def test_an_empty_drawing_stays_empty():
    assert not as_mnist(np.zeros((280, 280), np.uint8)).any()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 20), (2, 5, 5), (4, 16, 16), (1, 28, 20)])
def test_other_shapes_are_resized(shape):
    levels = levels_of(drawn((300, 200)), shape)
    assert levels.shape == (1, *shape)
    assert levels.dtype == torch.uint8
    assert levels[0, 0].float().mean() == pytest.approx(drawn((300, 200)).picture.mean(), abs=3)


@pytest.mark.parametrize(
    ("observation", "binarization", "values"),
    [
        ("bernoulli", None, "binary"),
        ("bernoulli", "static", "binary"),
        ("bernoulli", "threshold", "threshold"),
        ("discretized_logistic", "none", "levels"),
        ("discretized_logistic_mixture", "none", "levels"),
        ("gaussian", "none", "between"),
    ],
)
def test_pixels_are_those_that_the_observation_is_a_density_of(observation, binarization, values):
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    seen = as_seen(levels, observation, binarization)
    assert torch.equal(seen, as_seen(levels, observation, binarization))
    if values == "binary":
        assert set(seen.unique().tolist()) == {0.0, 1.0}
        assert 90 < seen.sum() < 166
    elif values == "threshold":
        assert torch.equal(seen.flatten(), (torch.arange(256) >= 128).float())
    elif values == "levels":
        assert torch.equal(seen, levels / 255)
    else:
        assert torch.equal((seen * 256).floor(), levels.float())


@pytest.mark.parametrize("kind", ["vae", "ladder", "draw", "attention", "colour"])
def test_every_answer_of_every_model(kind):
    chosen = player(kind)
    answers = Answers(chosen)
    steps = 2 if chosen.steps else 1
    _, height, width = chosen.model.image_shape
    drawing = sent(drawn((10 * width, 10 * height), erased=5 * height))
    before = chosen.steps
    scenes = {
        "redraw": answers.redraw(drawing, steps),
        "sample": answers.sample(3, 1, steps),
        "walk": answers.walk(drawing, answers.example(), 4, steps),
        "complete": answers.complete(drawing, 3, 0, steps),
    }
    if chosen.model.num_groups > 1:
        scenes["resample"] = answers.resample(drawing, steps, {"keep": 1, "seed": 4})
    assert chosen.steps == before
    picture = drawings.decoded(answers.taken(drawing)["picture"])
    assert picture.shape[0] % height == picture.shape[1] % width == 0
    for name, scene in scenes.items():
        shown = json.loads(json.dumps(scene.value()))
        count = len(shown["captions"])
        for panel in shown["panels"]:
            sprite = opened(panel["src"])
            assert panel["frames"] in (1, count), name
            assert sprite.shape == (panel["frames"] * panel["height"], panel["width"], 3)
            assert np.shape(panel["boxes"] or np.zeros((count, 1, 5)))[::2] == (count, 5)
        assert sprite.std() > 0
        assert shown["alt"]
        with Image.open(io.BytesIO(scene.gif())) as film:
            assert film.n_frames <= (count if name != "walk" else 2 * count - 2)  # no repetitions
            assert film.height > 200
    if chosen.steps:
        assert (
            scenes["redraw"].captions == scenes["sample"].captions == ("step 1 of 2", "step 2 of 2")
        )
    assert scenes["complete"].panels[0].name == "known"
    total, reconstruction, kl = (
        float(word) for word in scenes["redraw"].said.replace("−", "-").split()
        if word.lstrip("-").replace(".", "").isdigit()
    )  # fmt: skip
    assert total == pytest.approx(reconstruction + kl, abs=0.2)
    assert kl == pytest.approx(sum(scenes["redraw"].kl), abs=0.1) or kind == "vae"


def test_what_is_drawn_while_the_pen_moves_is_answered_without_a_film():
    answers, drawing = Answers(player("draw")), sent(drawn((90, 70)))
    assert answers.redraw(drawing, 2).plays
    assert not answers.redraw(drawing | {"live": True}, 2).plays


@torch.no_grad()
@pytest.mark.parametrize("kind", ["attention", "ladder"])
def test_resampling_keeps_the_first_latents_and_draws_the_others(kind):
    chosen, keep = player(kind), 2
    x = chosen.seen(drawn((90, 70)))
    scene = chosen.resampled(x, keep, 7)
    held = [latent.z for latent in chosen.model.infer(x, noise_from(0), trace=True).latents]
    fixed = [*held[:keep], None, None] if kind == "attention" else [None, *held[1:]]  # the top
    latents = [z if z is None else z.repeat(6, 1) for z in fixed]
    wanted = chosen.model.generate(6, noise_from(7), latents=latents)
    np.testing.assert_array_equal(scene.panels[0].images[-1], to_rgb(wanted.images))
    if kind == "attention":
        redrawn = chosen.redrawn(x).panels[-1]
        first = scene.panels[0].images[0]
        assert (first == redrawn.images[keep - 1]).all()
        assert scene.captions == ("step 2 of 4", "step 3 of 4", "step 4 of 4")
        assert (scene.panels[0].window.center[0] == redrawn.window.center[keep - 1]).all()
    again, other = chosen.resampled(x, keep, 7), chosen.resampled(x, keep, 8)
    last = [shown.panels[0].images[-1] for shown in (scene, again, other)]
    assert (last[0] == last[1]).all()
    assert (last[0] != last[2]).any()
    with pytest.raises(InputError, match="to keep must be a whole number from 1 to"):
        chosen.resampled(x, chosen.model.num_groups, 7)


def noise_from(seed):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def test_glimpses_are_what_the_encoder_reads(monkeypatch):
    chosen = player("attention")
    reader, patches = chosen.model.reader, []
    read = reader.read
    monkeypatch.setattr(
        reader, "read", lambda *inputs: (patches.append(read(*inputs)), patches[-1])[1]
    )
    x = chosen.seen(drawn((90, 70)))
    inference = chosen.model.infer(x, noise_from(0), trace=True)
    found = torch.cat(glimpses(chosen.model, x, inference.canvases, inference.windows), dim=2)
    torch.testing.assert_close(found.flatten(2).squeeze(1), torch.cat(patches))


def test_boxes_are_the_windows_in_pixels():
    panel = player("attention").redrawn(torch.zeros(1, 1, 7, 9)).panels[0]
    left, top, width, height, _ = np.array(panel.boxes())[:, 0].T
    center = panel.window.center[:, 0].detach().numpy()
    np.testing.assert_allclose(left + width / 2, center[:, 0], atol=0.011)
    np.testing.assert_allclose(top + height / 2, center[:, 1], atol=0.011)
    np.testing.assert_allclose(width, panel.window.stride[:, 0].detach(), atol=0.011)  # 2 filters


def test_nothing_drawn_or_erased_is_answered_with_nothing():
    answers = Answers(player("draw"))
    drawing = sent(drawn((90, 70)))
    assert answers.redraw(None, 2) is None
    assert answers.resample(None, 2, {"keep": 1, "seed": 0}) is None
    assert answers.walk(drawing, None, 4, 2) is None
    assert answers.complete(drawing, 3, 0, 2) is None
    with pytest.raises(InputError, match="no drawing yet"):
        answers.taken(None)


class WithoutImages(StandIn):
    def dataset(self):
        raise InputError("There is no folder /home/somebody/images.")


def test_examples_are_test_images_or_where_there_are_none_samples():
    chosen = player("vae")
    images = chosen.run.dataset()
    magnified = chosen.example(3)
    factor = magnified.shape[0] // 7
    np.testing.assert_array_equal(magnified[::factor, ::factor, 0], images.test.levels[3, 0])
    assert Player(WithoutImages("vae"), chosen.model).example(0).shape == magnified.shape


def test_installed_digits_are_the_examples_of_a_dataset_that_would_be_downloaded():
    run = WithoutImages("vae")
    run.data = DataConfig(name="mnist")
    found = Player(run, run.model()).examples
    assert torch.equal(found, load(DataConfig(name="mnist-5k")).test.levels)


def test_the_erased_part_is_what_the_chain_may_change():
    mask = drawings.known_pixels(drawn((90, 70), erased=40).erased, (7, 9))
    assert mask.shape == (1, 1, 7, 9)
    assert mask[0, 0, :4].all()
    assert not mask[0, 0, 4:].any()


def noise_picture(side):
    levels = np.random.default_rng(0).integers(256, size=(side, side, 3), dtype=np.uint8)
    return encoded(levels)


@pytest.mark.parametrize(
    "value",
    [
        "a string",
        {"picture": None},
        {"picture": "data:image/png;base64,%%%"},
        {"picture": "data:image/png;base64,AAAA"},
        {"picture": "data:image/svg+xml;base64,AAAA"},
        {"picture": "https://example.org/picture.png"},
        {"picture": "/etc/passwd"},
        {"picture": encoded(np.zeros((1, 1025, 3), np.uint8))},
        {"picture": encoded(np.zeros((9, 9, 3), np.uint8))[:80]},
        {"picture": noise_picture(700)},
        {"picture": noise_picture(8), "erased": noise_picture(9)},
        {"picture": noise_picture(8), "erased": 3},
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_drawing_is_refused_in_one_sentence(value):
    with pytest.raises(InputError) as refused:
        read_drawing(value)
    assert str(refused.value) == drawings.UNREADABLE


@pytest.mark.parametrize("number", [None, "3", float("nan"), float("inf"), 2.5, 0, 11, -1])
def test_numbers_from_the_page_are_checked(number):
    with pytest.raises(InputError, match="The number must be a whole number from 1 to 10"):
        whole(number, 1, 10, "number")
    assert whole(10.0, 1, 10, "number") == 10


def test_what_would_fill_the_memory_is_refused():
    model = build(CONFIGS["draw"], (1, 700, 700))
    chosen = Player(StandIn("draw"), model).with_steps(32)
    with pytest.raises(InputError, match="more than the page can show"):
        chosen.sampled(36, 0)


def test_steps_are_set_in_bounds_and_for_models_that_have_them():
    chosen = player("attention")
    assert chosen.with_steps(7).steps == 7
    assert chosen.steps == 4
    with pytest.raises(InputError, match="number of steps must be a whole number from 1 to 32"):
        chosen.with_steps(33)
    assert (
        Player(chosen.run, build(CONFIGS["draw"].with_(num_steps=300), (1, 2, 2))).max_steps == 300
    )
    assert player("vae").with_steps(9).steps is None


def through_limits(path, parts, max_body=10):
    """What the application behind the limits read, and the status that was sent."""
    seen, statuses = [], []

    async def app(scope, receive, send):
        seen.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200})

    messages = [
        {"type": "http.request", "body": part, "more_body": k < len(parts) - 1}
        for k, part in enumerate(parts)
    ]

    async def receive():
        return messages.pop(0)

    async def send(message):
        statuses.extend([message["status"]] if "status" in message else [])

    scope = {"type": "http", "path": path}
    asyncio.run(server.Limits(app, max_body)(scope, receive, send))
    return seen, statuses


def test_requests_are_limited_whatever_they_say_of_their_length():
    assert through_limits("/queue/join", [b"12345", b"67890"]) == ([b"1234567890"], [200])
    assert through_limits("/queue/join", [b"12345", b"678901", b"more"]) == ([], [413])
    assert through_limits("/gradio_api/upload", [b"1"]) == ([], [403])
    assert through_limits("/gradio_api/upload/", [b"1"]) == ([], [403])


def test_a_port_that_is_taken_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port} .*choose another --port"):
            server.free_port("127.0.0.1", port)
    assert server.free_port("127.0.0.1", None) >= server.FIRST_PORT
    with pytest.raises(InputError, match=r"Cannot listen on 203\.0\.113\.1"):
        server.free_port("203.0.113.1", None)


@pytest.fixture
def run(tmp_path):
    return str(StandIn("attention").written(tmp_path / "run").path)


def test_a_missing_extra_is_named(run, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["play", run]) == 2
    checkout = Path(limner.__file__).parents[2]
    assert f"pip install -e '{checkout}[app]'" in capsys.readouterr().err.replace("\n", " ")
    monkeypatch.setattr(extras, "SOURCE", tmp_path)
    assert main(["play", run]) == 2
    assert "pip install 'limner[app]'" in capsys.readouterr().err


def test_the_command_serves_the_run_on_the_loopback_address(run, monkeypatch, capsys):
    served = []
    monkeypatch.setattr(server, "serve", lambda *arguments: served.append(arguments))
    assert main(["play", run]) == 0
    flags = ["--host", "0.0.0.0", "--port", "8000", "--allow-host", "studio.example"]
    assert main(["play", run, run, *flags]) == 0
    assert [arguments[1:] for arguments in served] == [
        ("127.0.0.1", None, ()),
        ("0.0.0.0", 8000, ("studio.example",)),
    ]
    assert [len(arguments[0]) for arguments in served] == [1, 2]
    assert main(["play", run, "--port", "0"]) == 2
    assert "--port must be from 1 to 65535" in capsys.readouterr().err


def test_models_of_images_of_different_shapes_are_refused(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(server, "serve", lambda *arguments: None)
    images = dataset((1, 8, 8), "dynamic")
    other = str(StandIn("draw", images=images).written(tmp_path / "other").path)
    assert main(["play", run, other]) == 2
    assert "images of different shapes" in capsys.readouterr().err


def test_the_page_says_what_the_model_is():
    found = parts.about(player("colour"))
    assert found.startswith("draws in 3 steps, looking through a window that moves.")
    assert "Images of 8 x 6 in 3 channels, each pixel one of 256 levels" in found
    assert parts.about(player("ladder")).startswith("draws from the top down through 3 layers")
