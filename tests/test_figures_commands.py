"""The commands that make pictures: the files they write and the flags they check."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.cli import main
from test_figures import StandIn


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run in the folder RUN, which is not trained."""
    monkeypatch.chdir(tmp_path)
    return StandIn("attention").written(Path("RUN"))


def written(capsys):
    return capsys.readouterr().out.split()


def test_sample_writes_a_grid_and_the_images_of_its_seed(run, capsys):
    assert main(["sample", "RUN", "--n", "5", "--npz", "--seed", "3", "--magnification", "2"]) == 0
    png, npz = written(capsys)
    assert png == str(run.path / "figures" / "samples-seed-3.png")
    with Image.open(png) as image:
        assert image.size == (3 * 18 + 2 * 2, 2 * 14 + 2)
    images = np.load(npz)["images"]
    wanted = run.model().sample(5, torch.Generator().manual_seed(3)).detach().numpy()
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, wanted)


def test_sample_draws_pixels_where_asked(run, capsys):
    assert main(["sample", "RUN", "--n", "4", "--npz", "--draw"]) == 0
    assert set(np.unique(np.load(written(capsys)[1])["images"])) <= {0.0, 1.0}


def test_reconstruct_writes_images_beside_what_is_redrawn(run, capsys, tmp_path):
    out = str(tmp_path / "elsewhere")
    assert main(["reconstruct", "RUN", "--n", "4", "--split", "validation", "--out", out]) == 0
    names = [path.rsplit("/")[-1] for path in written(capsys)]
    assert names == ["reconstructions-validation.svg", "reconstructions-validation.png"]


def test_animate_writes_gifs_of_any_grid_and_strips(run, capsys):
    flags = ["--grid", "2", "3", "--magnification", "2", "--seconds", "1", "--hold", "0"]
    assert main(["animate", "RUN", *flags]) == 0
    paths = written(capsys)
    assert len(paths) == 6
    with Image.open(paths[0]) as gif:
        assert gif.size == (3 * 18 + 4 * 2, 2 * 14 + 3 * 2)
        assert gif.n_frames == 4
        assert gif.info["duration"] == 250
    with Image.open(paths[3]) as gif:
        assert gif.size == (3 * (2 * 18 + 1) + 4 * 2, 2 * 14 + 3 * 2)


def test_figures_writes_each_in_each_format(run, capsys):
    flags = ["--formats", "png", "--projection", "pca", "--max-images", "6"]
    assert main(["figures", "RUN", *flags]) == 0
    names = {path.rsplit("/")[-1] for path in written(capsys)}
    assert {"samples.png", "where-it-looks.png", "representation.png"} <= names
    assert names == {path.name for path in (run.path / "figures").iterdir()}


def test_report_lies_in_the_folder_of_its_run_and_takes_its_results(run, capsys):
    assert main(["report", "RUN"]) == 0
    assert written(capsys) == [str(run.path / "report.html")]
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert '<th scope="row">RUN</th>' in page


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sample", "RUN", "--n", "0"], "--n must be above zero"),
        (["sample", "RUN", "--seed", "-1"], "--seed must be from 0"),
        (["animate", "RUN", "--seed", str(2**64)], "--seed must be from 0"),
        (["interpolate", "RUN", "--seed", str(2**64)], "--seed must be from 0"),
        (["animate", "RUN", "--seconds", "nan"], "--seconds must be above zero"),
        (["animate", "RUN", "--hold", "inf"], "--hold must not be negative"),
        (["animate", "RUN", "--grid", "0", "3"], "--grid must be above zero"),
        (["animate", "RUN", "--grid", "900", "900"], "make --grid or --magnification smaller"),
        (["animate", "RUN", "--seconds", "-2"], "--seconds must be above zero"),
        (["figures", "RUN", "--max-images", "0"], "--max-images must be above zero"),
    ],
)
def test_flags_out_of_range_are_told_and_nothing_is_written(run, arguments, told, capsys):
    before = sorted(run.path.iterdir())
    assert main(arguments) == 2
    assert told in capsys.readouterr().err
    assert sorted(run.path.iterdir()) == before


def test_a_place_that_cannot_be_written_is_told(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["sample", "RUN", "--out", str(tmp_path / "file" / "below")]) == 2
    assert "choose another --out" in capsys.readouterr().err
