"""Figures, and a stand-in for a trained run that tests of figures, report and commands share."""

import json
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from limner.config import RunConfig
from limner.data import SPLITS, DataConfig
from limner.data.dataset import Dataset, Images
from limner.figures import attention, curves, gallery, grids, maps, style
from limner.figures.groups import carried_means, completed_by_means, from_the_top
from limner.figures.neighbours import nearest
from limner.figures.subject import Subject
from limner.layers.attention import Window, Windows
from limner.models import (
    ConvDRAWConfig,
    ConvLadderVAEConfig,
    DRAWConfig,
    LadderVAEConfig,
    VAEConfig,
    build,
)
from limner.pictures import beside, magnify, strided, tile, to_rgb
from limner.report import compared
from limner.storage import save_tensors
from limner.training.runs import Run

CONFIGS = {
    "vae": VAEConfig(hidden_dims=(8,), latent_dim=3),
    "ladder": LadderVAEConfig(hidden_dims=(8, 6, 4), latent_dims=(4, 3, 2)),
    "draw": DRAWConfig(num_steps=3, hidden_dim=6, latent_dim=3),
    "attention": DRAWConfig(
        num_steps=4, attention="filterbank", read_size=2, write_size=3, hidden_dim=6, latent_dim=3
    ),
    "conv-ladder": ConvLadderVAEConfig(groups="1x1,2x2", hidden_maps=3, latent_maps=1),
    "conv-draw": ConvDRAWConfig(num_steps=3, hidden_maps=3, latent_maps=2),
}
COLOUR = DRAWConfig(
    num_steps=3, attention="filterbank", read_size=1, write_size=1, hidden_dim=5, latent_dim=2,
    observation="discretized_logistic",
)  # fmt: skip


def dataset(shape=(1, 7, 9), binarization="dynamic", count=14, name="mnist-5k"):
    random = torch.Generator().manual_seed(1)

    def images(n):
        levels = torch.randint(256, (n, *shape), generator=random).to(torch.uint8)
        return Images(levels, torch.arange(n) % 3)

    return Dataset(name, binarization, 0, shape, images(2 * count), images(count), images(count))


def metrics(groups, epochs=5):
    def parts(epoch, shift):
        kl = [1.0 + 0.1 * epoch + 0.2 * group for group in range(groups)]
        reconstruction = -100.0 / epoch - shift
        bound = reconstruction - sum(kl)
        return {
            "elbo": bound, "reconstruction": reconstruction, "kl": sum(kl), "kl_per_group": kl,
        }  # fmt: skip

    return [
        {"epoch": epoch, "step": epoch, "seconds": 3.0 * epoch, "learning_rate": 1e-3, "beta": 1.0,
         "images_per_second": 100.0, "skipped_steps": 0,
         "train": parts(epoch, 0), "validation": parts(epoch, 1)}
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip


class StandIn(Run):
    """A run that was never trained, and of which nothing is on disk."""

    def __init__(self, kind="attention", name=None, path=None, images=None, evaluated=True):
        config = COLOUR if kind == "colour" else CONFIGS[kind]
        run = RunConfig(model=config, epochs=5)
        super().__init__(path or Path("runs") / kind, run, name=name or kind)
        self.images, self.evaluated = images or dataset(), evaluated
        torch.manual_seed(0)
        self._model = build(config, self.images.image_shape).eval()

    def model(self, checkpoint="best", weights="ema"):
        return self._model

    def dataset(self):
        return self.images

    def metrics(self):
        return metrics(self._model.num_groups)

    def results(self):
        if not self.evaluated:
            return None
        bound = self.metrics()[-1]["validation"]["elbo"]
        stat = {"mean": bound, "stderr": 0.5}
        return {
            "elbo": stat, "reconstruction": stat, "kl": {"mean": 9.0, "stderr": 0.1},
            "iw_bound": {"mean": bound + 2, "stderr": 0.5, "num_samples": 50},
            "bits_per_dim": {key: {"mean": 0.25, "stderr": 0.01} for key in ("elbo", "iw_bound")},
            "active_units": [2],
            "dataset": "mnist-5k", "observation": "bernoulli",
            "split": "test", "binarization": "dynamic", "num_images": 14, "seed": 0,
            "parameters": self._model.num_parameters, "training_seconds": 75.0,
            "images_per_second": 1234.0, "epochs": 5, "versions": {"torch": "2.13.0"},
        }  # fmt: skip

    def subject(self, **changes):
        return Subject(self._model, self.images, self.metrics(), **changes)

    def written(self, folder):
        """The same as a run on disk, its images in an .npz beside it."""
        folder.mkdir(parents=True)
        parts = {name: self.images.split(name) for name in SPLITS}
        images, labels = (
            {f"{letter}_{name}": getattr(part, kind).numpy() for name, part in parts.items()}
            for letter, kind in (("x", "levels"), ("y", "labels"))
        )
        np.savez(folder / "images.npz", **images, **labels)
        data = DataConfig(name=str(folder / "images.npz"), binarization=self.images.binarization)
        (folder / "config.json").write_text(self.config.with_(data=data).to_json())
        weights = {f"ema.{name}": value for name, value in self._model.state_dict().items()}
        document = {"image_shape": list(self.images.image_shape), "validation_elbo": -20.0}
        save_tensors(folder / "model.safetensors", weights, document)
        lines = [json.dumps(entry) + "\n" for entry in self.metrics()]
        (folder / "metrics.jsonl").write_text("".join(lines))
        (folder / "results.json").write_text(json.dumps(self.results()))
        return Run.open(folder)


@pytest.mark.parametrize("n", [1, 12, 13, 30])
def test_no_image_of_a_pair_is_left_out(n):
    images = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((2, 2, 3), np.uint8)
    (axes,) = grids.pairs(("x", images), ("mean", images + 100)).axes
    tiled = axes.images[0].get_array()[..., :3]  # a pixel between images of 2 x 2
    shown = {"x": [], "mean": []}
    for label, top in zip(axes.get_yticklabels(), range(0, len(tiled), 3), strict=True):
        row = tiled[top : top + 2]
        shown[label.get_text()] += [row[:, left : left + 2] for left in range(0, row.shape[1], 3)]
    for label, expected in (("x", images), ("mean", images + 100)):
        assert (np.stack(shown[label][:n]) == expected).all()
        assert all((blank == 255).all() for blank in shown[label][n:])


@pytest.mark.parametrize("kind", ["vae", "ladder", "draw", "colour"])
def test_every_picture_of_every_model_is_made_and_saved(kind, tmp_path):
    images = dataset((3, 6, 8), "none") if kind == "colour" else None
    subject = StandIn(kind, images=images).subject()
    made = list(gallery.pictures(subject))
    names = [picture.name for picture in made]
    assert len(set(names)) == len(names) <= gallery.COUNT
    assert ("where-it-looks" in names) == (kind in ("attention", "colour"))
    assert ("resampled-layers" in names) == (kind == "ladder")
    assert ("kl-per-group" in names) == (kind != "vae")
    for picture in made:
        assert picture.title
        assert picture.alt
        (png,) = style.save(picture.figure, tmp_path, picture.name, ["png"])
        assert np.asarray(Image.open(png).convert("L")).std() > 0


def test_figures_are_saved_in_every_format_and_leave_settings_alone(tmp_path):
    before = dict(mpl.rcParams)
    made = curves.training_curves(metrics(2))
    paths = style.save(made, tmp_path, "curves", ["svg", "pdf", "png"])
    assert [path.suffix for path in paths] == [".svg", ".pdf", ".png"]
    assert paths[1].read_bytes().startswith(b"%PDF")
    assert dict(mpl.rcParams) == before
    again = style.save(curves.training_curves(metrics(2)), tmp_path, "again", ["svg"])
    assert again[0].read_bytes() == paths[0].read_bytes()


def test_themed_svg_follows_the_reader_and_parses():
    svg = style.themed_svg(curves.training_curves(metrics(2)))
    ElementTree.fromstring(svg)
    assert "prefers-color-scheme:dark" in svg
    assert "var(--ink)" in svg
    body = svg.split("</style>", 1)[1]
    assert style.INK not in body


def test_curves_show_costs_and_their_parts_apart():
    entries = metrics(2)
    panels = curves.training_curves(entries).axes
    bound, reconstruction, kl = (panel.get_lines()[0].get_ydata() for panel in panels)
    np.testing.assert_allclose(bound, np.asarray(reconstruction) + np.asarray(kl))
    assert bound[-1] == -entries[-1]["validation"]["elbo"]


def test_a_mean_over_the_few_batches_after_a_validation_is_no_point_of_the_curve():
    entries = metrics(2)
    entries.append(entries[-1] | {"epoch": entries[-1]["epoch"] + 0.01})
    validation, train = (line.get_ydata() for line in curves.training_curves(entries).axes[0].lines)
    assert np.isfinite(validation).all()
    assert np.isfinite(train[:-1]).all()
    assert np.isnan(train[-1])


def test_one_epoch_is_enough_for_curves():
    curves.training_curves(metrics(1, epochs=1))
    curves.kl_by_group(metrics(3, epochs=1), ["a", "b", "c"])
    curves.compared_curves({"a": metrics(1, epochs=1), "b": metrics(1)})


def test_models_are_shown_side_by_side_on_the_same_images():
    subjects = {
        kind: Subject(build(CONFIGS[kind], (1, 7, 9)), dataset()) for kind in ("vae", "draw")
    }
    made = compared.samples(subjects), compared.reconstructions(subjects)
    drawn, kept = ([t.get_text() for t in each.figure.axes[0].get_yticklabels()] for each in made)
    assert drawn == ["vae", "draw"]
    assert kept == ["test images", "vae", "draw"]
    levels = CONFIGS["vae"].with_(observation="gaussian")
    subjects["levels"] = Subject(build(levels, (1, 7, 9)), dataset(binarization="none"))
    assert compared.reconstructions(subjects) is None  # it sees levels, the others 0 and 1


@pytest.mark.parametrize("groups", [3, 20])
def test_bars_hold_the_last_kl_of_each_group_and_lines_all(groups):
    entries = metrics(groups)
    bars, lines = curves.kl_by_group(entries, [f"step {k + 1}" for k in range(groups)]).axes
    wanted = np.transpose([entry["validation"]["kl_per_group"] for entry in entries])
    np.testing.assert_allclose([bar.get_height() for bar in bars.patches], wanted[:, -1])
    np.testing.assert_allclose([line.get_ydata() for line in lines.lines], wanted)
    ticks = [int(tick.get_text()) for tick in bars.get_xticklabels()]
    assert bars.get_xlabel() == "step"
    assert ticks == list(range(1, groups + 1, 1 if groups == 3 else 2))


def test_groups_of_a_ladder_are_typeset():
    bars, lines = curves.kl_by_group(metrics(2), ["z_1", "z_2"]).axes
    legend = [text.get_text() for text in lines.get_legend().get_texts()]
    assert legend == [tick.get_text() for tick in bars.get_xticklabels()] == ["$z_{1}$", "$z_{2}$"]
    assert style.typeset("z_5–z_14 new, 3 $") == r"$z_{5}$–$z_{14}$ new, 3 \$"


def test_a_saved_figure_has_its_title_and_a_shown_one_has_not(tmp_path):
    made = curves.training_curves(metrics(2))
    heights = []
    for name, heading in (("bare", {}), ("titled", {"title": "A $ 漢", "note": "word " * 60})):
        (path,) = style.save(made, tmp_path, name, ["png"], **heading)
        with Image.open(path) as image:
            heights.append(image.height)
    assert heights[1] > heights[0] + 30
    assert made.texts == []


@pytest.mark.parametrize(
    ("count", "most", "wanted"),
    [(0, 4, []), (4, 4, [0, 1, 2, 3]), (8, 4, [1, 3, 5, 7]), (9, 4, [2, 5, 8]), (5, 4, [0, 2, 4])],
)
def test_steps_have_one_stride_and_end_with_the_last(count, most, wanted):
    assert list(strided(count, most)) == wanted


def test_tiles_lie_where_they_should():
    images = np.arange(5)[:, None, None, None] * np.ones((1, 2, 3, 3)) * 50
    grid = tile(images.astype(np.uint8), columns=3, gap=1)
    assert grid.shape == (5, 11, 4)
    assert (grid[3:5, 4:7, :3] == 200).all()
    assert (grid[..., 3] == 0).sum() == 5 * 11 - 5 * 6
    magnified = magnify(images.astype(np.uint8), 4)
    assert (magnified[2, 3, 7] == images[2, 0, 1]).all()
    assert beside([magnified, magnified], gap=2).shape == (5, 8, 26, 3)


def test_colours_become_rgb_and_values_outside_are_clipped():
    grey = to_rgb(torch.tensor([[[[0.5, 2.0, -1.0]]]]))
    assert grey.tolist() == [[[[128] * 3, [255] * 3, [0] * 3]]]
    colour = to_rgb(torch.rand(2, 5, 3, 4, 6))
    assert colour.shape == (2, 5, 4, 6, 3)


def test_nearest_neighbours_are_those_of_a_plain_search(generator):
    training = torch.randint(256, (40, 1, 3, 4), generator=generator).to(torch.uint8)
    images = torch.rand(9, 1, 3, 4, generator=generator)
    found = nearest(images, training, chunk=7)
    plain = torch.cdist(images.flatten(1).double(), training.flatten(1).double() / 255)
    assert torch.equal(found.rows, plain.argmin(1))
    torch.testing.assert_close(found.distances, plain.min(1).values)
    assert nearest(training[3:4] / 255, training).rows.tolist() == [3]


def test_density_counts_centres_in_the_pixels_that_cover_them():
    centers = np.array([[1.0, 1.0], [1.49, 1.0], [3.5, 2.0], [99.0, -5.0]])
    density = attention.center_density(centers, (2, 4))
    wanted = np.array([[2, 0, 0, 1], [0, 0, 0, 1]]) / 4
    np.testing.assert_allclose(density, wanted)


def test_window_sizes_are_medians_in_pixels():
    stride = torch.tensor([[1.0, 2.0, 9.0], [4.0, 4.0, 4.0]])
    window = Window(torch.zeros(2, 3, 2), stride, stride / 2, stride)
    made = attention.window_sizes(Windows(window, window), read_size=3, write_size=1)
    reading, writing = (line.get_ydata() for line in made.axes[0].get_lines())
    assert list(reading) == [4, 8]
    assert list(writing) == [0, 0]


def test_median_windows_lie_on_the_centres_of_each_step():
    center = torch.tensor([[[2.0, 3.0], [4.0, 5.0], [6.0, 7.0]], [[90.0, 1.0]] * 3])
    window = Window(center, *[torch.full((2, 3), 0.5)] * 3)
    windows = Windows(None, window)
    made = attention.where_it_looks(windows, np.eye(8, 9), read_size=1, write_size=5)
    first, second = (axes.lines[0] for axes in made.axes)
    assert (min(first.get_xdata()), max(first.get_xdata())) == (4 - 1 - 1, 4 - 1 + 1)
    assert (min(first.get_ydata()), max(first.get_ydata())) == (5 - 1 - 1, 5 - 1 + 1)
    assert set(second.get_xdata()) == {8}, "cut at the edge of the image"
    assert [axes.get_xlabel() for axes in made.axes] == ["1", "2"]


def test_principal_components_keep_the_directions_of_largest_variance():
    random = np.random.RandomState(0)
    features = random.normal(size=(200, 4)) * [1, 5, 0.1, 3]
    mapped = maps.project(features)
    centered = features - features.mean(0)
    for component, axis in zip(mapped.points.T, (1, 3), strict=True):
        assert abs(np.corrcoef(component, centered[:, axis])[0, 1]) > 0.99
    assert maps.project(np.ones((4, 1))).points.shape == (4, 2)


@pytest.mark.parametrize("names", [None, ["shirt", "shoe", "bag"]])
def test_maps_name_classes_by_letter_or_in_a_legend(names):
    labels = np.arange(9) % 3
    mapped = maps.Map(np.random.RandomState(0).normal(size=(9, 2)), ("a", "b"))
    (axes,) = maps.representation_map(mapped, labels, names).axes
    assert (axes.get_legend() is not None) == (names is not None)


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(AssertionError):
        grids.labelled_rows(
            [("a", np.zeros((2, 3, 3, 3), np.uint8)), ("b", np.zeros((3, 3, 3, 3), np.uint8))]
        )


def test_held_layers_stay_and_means_follow_from_those_above():
    subject = StandIn("ladder").subject()
    model, x = subject.model, subject.x[:2]
    with torch.no_grad():
        held = carried_means(model, x)
        everything = from_the_top(model, held, keep=3)
        torch.testing.assert_close(everything, model.generate(2, latents=held).images)
        latents = ["mean", "mean", held[2]]
        expected = model.generate(2, latents=latents)
        torch.testing.assert_close(completed_by_means(model, held, keep=1), expected.images)
        assert torch.equal(expected.latents[2], held[2])
        prior_means = model.infer(x, trace=True, latents=expected.latents).latents
        for group in (0, 1):
            torch.testing.assert_close(expected.latents[group], prior_means[group].p.loc)


def test_statistics_are_taken_over_all_test_images_or_as_many_as_asked():
    run = StandIn("attention")
    assert run.subject().means.shape == (14, 4 * 3)
    assert run.subject().windows.write.center.shape == (4, 14, 2)
    assert run.subject(max_images=5).windows.read.sigma.shape == (4, 5)
