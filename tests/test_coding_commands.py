"""`limner compress`, `decompress` and `evaluate --coded` on a run of small PNG files."""

import json
import os
import re
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch
from PIL import Image

from limner import InputError, VAEConfig
from limner.cli import main
from limner.coding import compress as coded
from limner.coding.container import Header, packed, unpacked
from limner.commands.compress import compress
from limner.commands.decompress import decompress
from limner.commands.evaluate import Options, evaluate
from limner.config import RunConfig
from limner.data import DataConfig
from limner.evaluation.tables import results_rows
from limner.report.sections import numbers
from limner.training import train
from limner.training.runs import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained run on 6x5 black and white bars."""
    path = tmp_path_factory.mktemp("runs")
    for number in range(60):
        split = "train" if number < 40 else "validation" if number < 48 else "test"
        levels = np.zeros((6, 5), np.uint8)
        levels[number % 6 :, number % 5] = 255
        (path / "bars" / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(path / "bars" / split / f"{number}.png")
    config = RunConfig(
        model=VAEConfig(hidden_dims=(8,), latent_dim=3),
        data=DataConfig(name=str(path / "bars")),
        epochs=1,
        batch_size=20,
        compile="never",
        device="cpu",
    )
    train(config, path / "run")
    return path


@pytest.fixture
def file(folder, tmp_path):
    """The test split, compressed."""
    compress(str(folder / "run"), out=tmp_path / "bars.lim")
    return tmp_path / "bars.lim"


def grey(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_pictures_come_back_under_their_names(folder, tmp_path, capsys):
    pictures = folder / "bars" / "test"
    compress(str(folder / "run"), images=(str(pictures),), out=tmp_path / "a.lim")
    said = capsys.readouterr().out
    assert "12 pictures in" in said
    assert "of the -ELBO" in said
    assert "initial bits" in said
    decompress(tmp_path / "a.lim", out=tmp_path / "new" / "again")
    assert "12 images in" in capsys.readouterr().out
    again = sorted((tmp_path / "new" / "again").iterdir())
    assert [path.name for path in again] == [path.name for path in sorted(pictures.iterdir())]
    assert all(np.array_equal(grey(path), grey(pictures / path.name)) for path in again)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["again"]


@pytest.mark.parametrize(("place", "words"), [("test/0.lim", "among"), ("test", "is a folder")])
def test_the_pictures_are_not_overwritten(folder, place, words):
    pictures = folder / "bars" / "test"
    before = sorted(pictures.iterdir())
    with pytest.raises(InputError, match=words):
        compress(str(folder / "run"), images=(str(pictures),), out=folder / "bars" / place)
    one = before[0]
    with pytest.raises(InputError, match="among"):
        compress(str(folder / "run"), images=(str(one),), out=one)
    assert sorted(pictures.iterdir()) == before


def test_an_array_comes_back_as_an_array(folder, tmp_path):
    levels = 255 * np.random.default_rng(0).integers(2, size=(7, 6, 5), dtype=np.uint8)
    np.savez(tmp_path / "some.npz", images=levels)
    run, out = str(folder / "run"), tmp_path / "a.lim"
    compress(run, images=(str(tmp_path / "some.npz"),), num_images=5, out=out)
    (tmp_path / "again").mkdir()
    decompress(out, out=tmp_path / "again")
    assert np.array_equal(np.load(tmp_path / "again" / "images.npz")["images"], levels[:5])


@pytest.mark.parametrize("split", ["validation", "train"])
def test_a_split_is_named_and_a_path_wins(folder, tmp_path, split, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compress(str(folder / "run"), images=(split,), out=tmp_path / "a.lim")
    header, _ = unpacked((tmp_path / "a.lim").read_bytes())
    assert header.images == {"validation": 8, "train": 40}[split]
    assert split in header.about["images"]
    os.symlink(folder / "bars" / "test", tmp_path / split)
    compress(str(folder / "run"), images=(split,), out=tmp_path / "a.lim")
    assert unpacked((tmp_path / "a.lim").read_bytes())[0].images == 12


def test_some_groups_are_kept(folder, tmp_path, capsys):
    compress(str(folder / "run"), keep=1, out=tmp_path / "a.lim")
    said = capsys.readouterr().out
    assert "initial bits" not in said
    assert re.search(r"PSNR +\d+\.\d\d dB", said)
    decompress(tmp_path / "a.lim", out=tmp_path / "again")
    assert len(list((tmp_path / "again").rglob("*.png"))) == 12


def test_a_figure_of_rate_and_distortion(folder, tmp_path, capsys):
    figure = tmp_path / "figures" / "rates.png"
    compress(str(folder / "run"), out=tmp_path / "a.lim", figure=figure)
    assert str(figure) in capsys.readouterr().out
    with Image.open(figure) as drawn:
        assert drawn.width > 500
    with pytest.raises(InputError, match=r"\.png"):
        compress(str(folder / "run"), out=tmp_path / "b.lim", figure=tmp_path / "rates.jpg")
    assert not (tmp_path / "b.lim").exists()


def test_nothing_is_written_for_another_model_or_a_damaged_file(folder, file, tmp_path):
    data, out = file.read_bytes(), tmp_path / "again"
    with pytest.raises(InputError, match="another model"):
        decompress(file, out=out, run="mnist-iwae-vae")
    for wrong in (
        data[:-1],
        data[: len(data) // 2],
        b"",
        data[:60] + bytes([data[60] ^ 1]) + data[61:],
    ):
        file.write_bytes(wrong)
        with pytest.raises(InputError):
            decompress(file, out=out)
    with pytest.raises(InputError, match="Cannot read"):
        decompress(tmp_path / "none.lim", out=out)
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_the_model_may_be_elsewhere(folder, file, tmp_path):
    header, words = unpacked(file.read_bytes())
    for run, sentence in (("gone", "--run"), ("", "--run"), ("hub:a/b", "--run"), (3, "--run")):
        about = {**header.about, "run": run}
        file.write_bytes(packed(header.with_(about=about), words))
        with pytest.raises(InputError, match=sentence):
            decompress(file, out=tmp_path / "again")
    decompress(file, out=tmp_path / "again", run=str(folder / "run"))
    assert list((tmp_path / "again").rglob("*.png"))


def test_files_of_a_saved_model_in_python_are_decompressed_too(folder, tmp_path):
    model = Run.open(folder / "run").model()
    model.save(tmp_path / "saved")
    x = torch.ones(2, 1, 6, 5)
    (tmp_path / "a.lim").write_bytes(coded(model, x))
    decompress(tmp_path / "a.lim", out=tmp_path / "again", run=str(tmp_path / "saved"))
    assert np.load(tmp_path / "again" / "images.npz")["images"].tolist() == [[[255] * 5] * 6] * 2


@pytest.mark.parametrize(
    "names",
    [
        ["../../out.png", "/etc/b", "..", *"abcdefghi"],
        ["same"] * 12,
        ["A", "a", *"bcdefghijk"],
        [None, 3, {}, *"abcdefghi"],
        ["C:\\x\\y.png", "x\0y\n", "é/ü.gif", *"abcdefghi"],
        ["too few"],
    ],
)
def test_names_stay_inside_the_folder(file, tmp_path, names):
    header, words = unpacked(file.read_bytes())
    file.write_bytes(packed(header.with_(about={**header.about, "names": names}), words))
    out = tmp_path / "inside" / "again"
    decompress(file, out=out)
    assert len(list(out.rglob("*.png"))) == 12
    assert {path.name for path in tmp_path.iterdir()} == {file.name, "inside"}
    assert {path.name for path in out.parent.iterdir()} == {"again"}


def test_a_folder_with_something_in_it_is_left_alone(file, tmp_path):
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="new or empty"):
        decompress(file, out=tmp_path / "again")
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="new or empty"):
        decompress(file, out=file)


def test_a_full_disk_leaves_no_folder(file, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match="free some space"):
        decompress(file, out=tmp_path / "again")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_the_bits_of_an_evaluation_stand_beside_its_bound(folder, tmp_path):
    options = Options(num_samples=2, coded=10, out=tmp_path)
    evaluate(str(folder / "run"), options)
    results = json.loads((tmp_path / "results.json").read_text())
    found = results["coded"]
    assert found["num_images"] == 10
    assert found["nats"] == pytest.approx(found["minus_elbo"], rel=0.3)
    assert found["bits_per_dim"] == pytest.approx(found["nats"] / np.log(2) / 30)
    assert results_rows(results)[-1][1] == f"{found['nats']:.2f}"
    said = dict(numbers(results))["compressed"]
    assert said.startswith(f"{found['nats']:.2f}")
    assert "first 10 images" in said
    for wrong in (0, 13):
        with pytest.raises(InputError, match="--coded"):
            evaluate(str(folder / "run"), Options(coded=wrong, out=tmp_path))


def test_the_commands_from_a_shell(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    file, out = str(tmp_path / "a.lim"), str(tmp_path / "again")
    assert main(["compress", "run", "test", "--out", file]) == 0
    assert main(["decompress", file, "--out", out]) == 0
    assert main(["decompress", file, "--out", out]) == 2
    said = capsys.readouterr()
    assert "next: limner decompress" in said.err
    assert "new or empty" in said.err
    assert main(["compress", "run", "nowhere", "--out", file]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_the_program_that_compares_codecs(folder, tmp_path, capsys):
    script = Path(__file__).parents[1] / "tools" / "compression.py"
    out = tmp_path / "compression.json"
    run_path(str(script))["compression"]((str(folder / "run"),), num_images=6, out=out)
    (entry,) = json.loads(out.read_text()).values()
    assert entry["models"]["run"]["images"] == 6
    assert entry["models"]["run"]["ratio"] == pytest.approx(1, abs=0.5)
    assert {"PNG", "WebP", "bz2"} <= entry["codecs"].keys()
    assert all(codec["one_file"] > 0 for codec in entry["codecs"].values())
    assert "| run | " in out.with_suffix(".md").read_text()


def test_the_header_is_small_and_names_what_made_the_file(file):
    content = file.read_bytes()
    header, words = unpacked(content)
    assert isinstance(header, Header)
    assert len(content) - 4 * len(words) < 400
    assert header.about["run"]
    assert header.about["versions"]["torch"]
