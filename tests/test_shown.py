"""Representations for notebooks, and `limner.show`: what is seen, without side effects."""

import base64
import io
import itertools
import math
import pickle
import re
import subprocess
import sys
import types
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageShow

import limner
from limner import DRAWConfig, History, InputError, LadderVAEConfig, VAEConfig, notebook
from limner.data import DataConfig, load
from limner.figures import showing
from limner.figures.films import Film
from limner.models import build
from limner.pictures import grid
from test_figures import StandIn

CONFIGS = {
    "vae": VAEConfig(hidden_dims=(4,), latent_dim=2),
    "ladder": LadderVAEConfig(hidden_dims=(6, 5), latent_dims=(3, 2)),
    "draw": DRAWConfig(num_steps=12, attention="filterbank", hidden_dim=6, latent_dim=2),
    "logistic": DRAWConfig(
        num_steps=2, hidden_dim=6, latent_dim=2, observation="discretized_logistic"
    ),
}


def model_of(name, shape=(1, 8, 6)):
    torch.manual_seed(0)
    return build(CONFIGS[name], shape).eval()


def pictures(html):
    """The pictures in a page, decoded."""
    ElementTree.fromstring(re.sub(r"(<img [^>]*)>", r"\1/>", html))  # well formed
    found = re.findall(r'src="data:image/\w+;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def levels(image, columns, shape):
    """The images in a grid [n, H, W] of RGB pictures, by the positions of the cells."""
    height, width = shape
    array = np.asarray(image.convert("RGB"))
    rows = (array.shape[0] + 1) // (height + 1)
    cells = [
        array[
            r * (height + 1) : r * (height + 1) + height, c * (width + 1) : c * (width + 1) + width
        ]
        for r in range(rows)
        for c in range(columns)
    ]
    return np.stack(cells)


# Representations


@pytest.mark.parametrize("name", CONFIGS)
def test_a_generation_shows_its_pixels(name):
    generation = model_of(name).generate(11)
    image, *strip = pictures(generation._repr_html_())
    shown = levels(image, 8, (8, 6))[:11]
    expected = (generation.images.detach()[:, 0] * 255).round().numpy()
    assert np.array_equal(shown[..., 0], expected)
    assert np.asarray(image)[-1, -1, 3] == 0, "empty cells are transparent"
    assert len(strip) == (generation.canvases is not None)
    for canvases in strip:
        last = levels(canvases, canvases.width // 7 + 1, (8, 6))[-1]
        assert np.abs(last[..., 0] - expected[0]).max() <= 1, "the last canvas is the image"
    png = Image.open(io.BytesIO(generation._repr_png_()))
    assert np.array_equal(
        np.asarray(png)[:: png.height // image.height][:1, 0], np.asarray(image)[:1, 0]
    )


def test_an_inference_shows_means_and_with_a_trace_reconstructions():
    model = model_of("draw")
    x = torch.rand(3, 1, 8, 6).round()
    plain, traced = model.infer(x), model.infer(x, trace=True)
    html = plain._repr_html_()
    assert f">{-limner.elbo(plain).mean():.2f}<" in html
    assert f">{plain.kl[:, 4].mean():.2f}<" in html
    assert pictures(html) == []
    (image,) = pictures(traced._repr_html_())
    expected = (traced.observation.mean.detach()[:, 0] * 255).round().numpy()
    assert np.array_equal(levels(image, 3, (8, 6))[..., 0], expected)


def test_many_groups_are_summed_up():
    model = model_of("draw")
    model.num_steps = 40
    html = model.infer(torch.zeros(2, 1, 8, 6))._repr_html_()
    assert "KL of group 8" in html
    assert "KL of group 9" not in html
    assert "KL of 32 more groups" in html


def test_large_batches_and_large_images_are_cut_down():
    generation = model_of("vae").generate(100)
    assert "100 images, 6 x 8; the first 64 are shown" in generation._repr_html_()
    large = torch.rand(70, 3, 300, 500)
    shown = grid(large)
    assert shown.shown == 64
    assert shown.tiled.shape[0] < 64 * 110
    assert shown.factor == 1
    expected = large[0, :, :3, :3].mean((1, 2)) * 255
    assert np.abs(shown.tiled[0, 0, :3] - expected.numpy()).max() <= 1


@pytest.mark.parametrize("name", ["vae", "draw"])
def test_whatever_tensors_hold_can_be_shown(name):
    model = model_of(name)
    empty, one = model.generate(0), model.generate(1)
    assert "0 images" in empty._repr_html_()
    assert empty._repr_png_() is None
    assert one.images.requires_grad
    for images in (one.images * math.nan, one.images.double(), one.images.bfloat16()):
        assert len(pictures(one._replace(images=images)._repr_html_())) == 1 + (name == "draw")
    for trace in (False, True):
        model.infer(torch.zeros(0, 1, 8, 6), trace=trace)._repr_html_()
        inference = model.infer(torch.zeros(2, 1, 8, 6), trace=trace)
        assert "nan" in inference._replace(kl=inference.kl * math.nan)._repr_html_()


def film(steps=3, count=5, size=(8, 8)):
    panel = np.zeros((steps, count, *size, 3), np.uint8)
    panel[..., 0] = np.linspace(0, 255, steps, dtype=np.uint8)[:, None, None, None]
    return Film((panel,), ("x",), tuple("abc"[:steps]), "A <film>", "Red rises.", "red")


def test_a_film_moves():
    (gif,) = pictures(film()._repr_html_())
    assert (gif.format, gif.n_frames) == ("GIF", 3)
    middle = [gif.seek(k) or gif.convert("RGB").getpixel((4, 4))[0] for k in range(3)]
    assert middle == [0, 127, 255]
    assert "A &lt;film&gt;" in film()._repr_html_()
    assert "no images" in film(count=0)._repr_html_()


def test_a_large_film_shows_fewer_and_smaller_images():
    html = film(count=200, size=(300, 300))._repr_html_()
    assert re.search(r"The first \d+ of 200 are shown", html)
    (gif,) = pictures(film(count=2, size=(3000, 3000))._repr_html_())
    assert gif.width * gif.height * 3 < 2**24


def test_results_of_models_remain_tuples_and_trees():
    inference = model_of("vae").infer(torch.zeros(2, 1, 8, 6))
    kl, log_likelihood, *rest = inference
    assert inference._replace(kl=kl) == inference
    assert len(inference) == len(inference._fields) == 2 + len(rest)
    leaves, tree = torch.utils._pytree.tree_flatten(inference)
    assert leaves[:2] == [kl, log_likelihood]
    again = torch.utils._pytree.tree_unflatten(leaves, tree)
    assert type(again) is type(inference)
    doubled = torch.func.vmap(lambda kl: inference._replace(kl=2 * kl).kl)(kl)
    assert torch.equal(doubled, 2 * kl)


def test_nothing_changes_when_something_is_shown(monkeypatch, tmp_path):
    model, data = model_of("draw"), load(DataConfig(name="digits"))
    evaluation = limner.evaluate(model_of("vae", (1, 8, 8)), data, 2, num_images=5)
    generation = model.generate(3)
    inference = model.infer(generation.images.detach().round(), trace=True)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    settings, backend = dict(mpl.rcParams), mpl.rcParams._get_backend_or_none()

    def no_pass(*_, **__):
        raise AssertionError("a model ran")

    monkeypatch.setattr(torch.nn.Module, "__call__", no_pass)
    monkeypatch.setattr(type(model), "_generate", no_pass)
    shown = [generation, inference, film(), history(3), evaluation, data, generation.images]
    for number, each in enumerate(shown):
        limner.show(each, tmp_path / f"{number}.html")
        if hasattr(each, "_repr_html_"):
            each._repr_html_()
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert mpl.rcParams._get_backend_or_none() == backend
    assert dict(mpl.rcParams) == settings


def test_neither_pyplot_nor_ipython_is_imported(tmp_path):
    code = f"""
import random, sys, torch, limner
model = limner.VAE(limner.VAEConfig(hidden_dims=(4,), latent_dim=2), (1, 6, 6))
generation = model.generate(3)
generation._repr_html_(), generation._repr_png_()
print(*{{"matplotlib", "limner.figures"}} & {{*sys.modules}})
for number in range(2):
    state = random.getstate()
    limner.show(generation, {str(tmp_path / "x.png")!r})
    limner.show(limner.History([{{"epoch": 1}}]), {str(tmp_path / "x.html")!r})
assert random.getstate() == state
print(*{{"matplotlib.pyplot", "IPython", "pandas", "tkinter"}} & {{*sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# History


def record(k, **validation):
    figures = {"elbo": -100.0 + k, "reconstruction": -80.0, "kl": 20.0 - k, "kl_per_group": [15, 5]}
    return {
        "epoch": float(k),
        "step": 10 * k,
        "seconds": 60.0 * k,
        "images_per_second": 1234.5,
        "train": figures,
        "validation": figures | validation,
    }


def history(count):
    return History(record(k) for k in range(1, count + 1))


def test_a_history_is_a_list_of_records_with_columns():
    kept = history(3)
    kept.append(record(4, elbo=None, iw_bound=-90.0))
    assert (len(kept), kept[-1]["validation"]["iw_bound"]) == (4, -90.0)
    assert kept["validation.elbo"] == [-99.0, -98.0, -97.0, None]
    assert kept["validation.iw_bound"] == [None, None, None, -90.0]
    assert kept[:3] == history(3) != kept
    assert [entry["epoch"] for entry in kept] == kept["epoch"] == [1, 2, 3, 4]
    assert kept.columns[:3] == ("epoch", "step", "seconds")
    assert {"train.kl", "train.kl_per_group", "validation.elbo"} < set(kept.columns)
    assert pickle.loads(pickle.dumps(kept)) == kept
    with pytest.raises(InputError, match=r"no column 'validation\.elb'; did you mean"):
        kept["validation.elb"]
    assert "4 records, epoch 4, validation -ELBO -" in repr(kept)
    assert repr(History()) == "History(no records)"
    assert History()["epoch"] == []


def test_a_history_is_read_from_a_run(tmp_path):
    run = StandIn().written(tmp_path / "run")
    kept = History.read(run.path)
    assert list(kept) == run.metrics()
    assert History.read(run) == kept


def test_without_pandas_one_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        history(2).to_pandas()


def test_pandas_gets_rows_and_dotted_columns(monkeypatch):
    """A stand-in for pandas, which is not needed to run the tests."""
    made = []
    fake = types.SimpleNamespace(DataFrame=lambda rows, columns: made.append((rows, columns)))
    monkeypatch.setitem(sys.modules, "pandas", fake)
    kept = history(2)
    kept.to_pandas()
    ((rows, columns),) = made
    assert columns == kept.columns
    assert [row["validation.elbo"] for row in rows] == [-99.0, -98.0]
    assert rows[0]["train.kl_per_group"] == [15, 5]


def test_the_curve_of_a_history_has_gaps_and_follows_the_page():
    kept = history(30)
    kept.append(record(31, elbo=None))
    kept.append(record(32, elbo=math.inf))
    kept.append(record(33))
    html = kept._repr_html_()
    tree = ElementTree.fromstring(html)
    lines = tree.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert [line.get("stroke") for line in lines] == ["currentColor"] * 2 + ["#d55e00"]
    first = [tuple(map(float, place.split(","))) for place in lines[0].get("points").split()]
    assert len(first) == 30
    xs, ys = zip(*first, strict=True)
    assert np.allclose(np.diff(xs), 320 / 32, atol=0.2), "epochs are evenly spaced"
    assert all(later > earlier for earlier, later in itertools.pairwise(ys)), "down is better"
    rows = tree.findall(".//tbody/tr")
    assert [row[0].text for row in rows] == ["1", "2", "…", *map(str, range(26, 34))]


@pytest.mark.parametrize(
    "records", [[], [record(1)], [{"epoch": 1.0}], [record(1, elbo=-1e37)] * 3]
)
def test_a_history_of_any_records_is_shown(records):
    ElementTree.fromstring(History(records)._repr_html_())


# show


@pytest.fixture
def outside(monkeypatch, tmp_path):
    """Outside notebooks, without a display, in an empty folder."""
    monkeypatch.setattr(showing, "_has_display", lambda: False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def kernel(monkeypatch):
    """What a stand-in for a Jupyter kernel has displayed."""
    displayed = []
    shell = types.SimpleNamespace(kernel=object())
    fake = types.ModuleType("IPython")
    fake.get_ipython = lambda: shell
    fake.display = types.ModuleType("IPython.display")
    fake.display.HTML = lambda html: html
    fake.display.display = displayed.append
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", fake.display)
    return displayed


def test_without_a_display_numbered_files_are_written_and_named(outside, capsys):
    generation = model_of("vae").generate(3)
    (outside / "limner-2.png").write_bytes(b"mine")
    written = [limner.show(generation), limner.show(film()), limner.show(generation)]
    assert [path.name for path in written] == ["limner-1.png", "limner-1.gif", "limner-3.png"]
    assert capsys.readouterr().out.split() == [str(path) for path in written]
    assert (outside / "limner-2.png").read_bytes() == b"mine"
    assert written[0].read_bytes() == generation._repr_png_()


def test_a_notebook_displays_and_writes_nothing(outside, kernel, capsys):
    assert notebook.in_notebook()
    data, figure = load(DataConfig(name="digits")), Figure()
    generation = model_of("vae").generate(3)
    for each in (generation, film(), history(3), data, figure, generation.images):
        assert limner.show(each) is None
    assert kernel[0] == generation._repr_html_()
    assert [len(pictures(html)) for html in kernel] == [1, 1, 0, 1, 1, 1]
    assert list(outside.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_an_ipython_terminal_is_no_notebook(monkeypatch):
    fake = types.ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", fake)
    for shell in (types.SimpleNamespace(), None):  # None: IPython is imported and does not run
        fake.get_ipython = lambda shell=shell: shell
        assert not notebook.in_notebook()


def test_a_display_opens_pictures_in_the_viewer_and_films_in_the_browser(outside, monkeypatch):
    opened = []
    monkeypatch.setattr(showing, "_has_display", lambda: True)
    monkeypatch.setattr(ImageShow, "show", lambda image, title: opened.append(image.size) or True)
    monkeypatch.setattr(showing.webbrowser, "open", lambda url: opened.append(url) or True)
    assert limner.show(torch.zeros(2, 1, 8, 6)) is None
    assert limner.show(film()) is None
    (width, height), url = opened
    assert (width / 13, height / 8) == (12, 12)
    assert url.startswith("file:")
    assert url.endswith(".gif")
    monkeypatch.setattr(ImageShow, "show", lambda image, title: False)
    assert limner.show(torch.zeros(2, 1, 8, 6)).name == "limner-1.png", "there is no viewer"


@pytest.mark.parametrize(
    ("terminal", "platform", "variables", "display"),
    [
        (True, "linux", {"DISPLAY": ":0"}, True),
        (True, "linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        (True, "linux", {}, False),
        (True, "darwin", {}, True),
        (False, "win32", {}, False),
        (False, "linux", {"DISPLAY": ":0"}, False),
    ],
)
def test_windows_open_only_for_a_person(terminal, platform, variables, display, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert showing._has_display() is display


def test_results_are_printed_as_tables(outside, capsys):
    data = load(DataConfig(name="digits"))
    evaluation = limner.evaluate(model_of("vae", (1, 8, 8)), data, 2, num_images=5)
    capsys.readouterr()
    for each in (evaluation, history(3), model_of("vae").infer(torch.zeros(2, 1, 8, 6))):
        assert limner.show(each) is None
    printed = capsys.readouterr().out
    assert f"{-evaluation.elbo.mean:.2f}" in printed
    assert " 97.00" in printed, "the last record"
    assert "log p(x | z)" in printed
    assert list(outside.iterdir()) == []
    fit = types.SimpleNamespace(history=history(3))
    limner.show(fit)
    assert " 97.00" in capsys.readouterr().out
    limner.show(limner.compare({"one": evaluation, "other": evaluation}))
    assert f"{-evaluation.elbo.mean:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("images", "count"),
    [
        (torch.rand(5, 1, 8, 6), 5),
        (torch.rand(5, 8, 6), 5),
        (torch.rand(5, 8, 6, 3), 5),
        (torch.rand(3, 8, 6), 1),
        (torch.rand(8, 6), 1),
        (torch.rand(8, 6, 3), 1),
        (torch.rand(5, 1, 8, 6) > 0.5, 5),
        (np.random.default_rng(0).integers(256, size=(5, 8, 6)).astype(np.uint8), 5),
        (np.random.default_rng(0).random((5, 8, 6))[::-1], 5),
        ([torch.rand(1, 8, 6)] * 5, 5),
    ],
)
def test_images_in_any_form(images, count, tmp_path):
    with Image.open(limner.show(images, tmp_path / "new" / "x.png")) as image:
        factor = image.height // 8
        assert image.size == (7 * count * factor - factor, 8 * factor)
        assert factor > 4, "small images are magnified"
        first = np.asarray(image)[::factor, ::factor][:8, :6, :3]
    array = np.asarray(images[0] if count > 1 else images)
    array = np.moveaxis(array, 0, -1) if array.ndim == 3 and array.shape[0] in (1, 3) else array
    array = array if array.ndim == 3 else array[..., None]
    scale = 1 if array.dtype == np.uint8 else 255
    assert np.array_equal(first, np.broadcast_to(np.rint(array * scale), (8, 6, 3)))


def test_each_kind_is_written_by_the_suffix_of_its_path(tmp_path):
    data = load(DataConfig(name="digits"))
    evaluation = limner.evaluate(model_of("vae", (1, 8, 8)), data, 2, num_images=5)
    forms = {
        ".gif": [film()],
        ".png": [history(3), data, Figure(), model_of("vae").generate(2)],
        ".svg": [history(3), data, Figure()],
        ".txt": [history(3), evaluation],
        ".html": [film(), history(3), data, evaluation, Figure()],
    }
    starts = {".gif": b"GIF", ".png": b"\x89PNG", ".svg": b"<?xml", ".html": b"<!doctype html>"}
    for suffix, objects in forms.items():
        for each in objects:
            path = limner.show(each, tmp_path / f"x{suffix}")
            assert path.read_bytes().startswith(starts.get(suffix, b""))
    assert "ELBO" in (tmp_path / "x.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (model_of("vae"), r"what it draws: model\.generate\(16\)"),
        (History(), "no records to show"),
        (3, "cannot show a int"),
        ([], "cannot show a list"),
        (["a"], "cannot show a str"),
        (torch.zeros(2, 1, 3, 4, 5), "not \\[2, 1, 3, 4, 5\\]"),
        (torch.zeros(0, 1, 3, 4), "no images"),
        (torch.zeros(1, 1, 0, 4), "Images have the shape"),
        (torch.zeros(3, 4, dtype=torch.int64), "floats, bool or uint8"),
        (torch.zeros(3, 4, dtype=torch.complex64), "cannot show"),
        (torch.full((3, 4), 255.0), "range from 255 to 255"),
        ([torch.zeros(3, 4), torch.zeros(3, 5)], "differ in size"),
    ],
)
def test_what_cannot_be_shown(what, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence) as error:
        limner.show(what, tmp_path / "x.png")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "x.png").exists()


def test_paths_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"written as \.gif or \.html, not as x\.png"):
        limner.show(film(), tmp_path / "x.png")
    with pytest.raises(InputError, match=r"written as \.txt or \.html"):
        limner.show(model_of("vae").infer(torch.zeros(2, 1, 8, 6)), tmp_path / "x.png")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        limner.show(film(), tmp_path / "file" / "x.gif")
