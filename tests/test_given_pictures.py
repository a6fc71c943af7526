"""Pictures given to commands one by one, and trainings with a handful of images."""

import json

import numpy as np
import pytest
from PIL import Image

from limner.cli import main
from limner.commands.encode import encode
from limner.commands.evaluate import Options, evaluate
from limner.commands.options import Subject
from limner.config import RunConfig
from limner.data import DataConfig
from limner.data.given import given
from limner.evaluation import evaluate_model
from limner.models import VAEConfig
from limner.storage import load_tensors
from limner.training import Run, train

RANDOM = np.random.default_rng(0)
MODEL = VAEConfig(hidden_dims=(4,), latent_dim=2, observation="discretized_logistic")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on grey 6x5 arrays, and a folder of pictures of other sizes and modes."""
    path = tmp_path_factory.mktemp("given")
    np.save(path / "grey.npy", RANDOM.integers(256, size=(30, 6, 5), dtype=np.uint8))
    data = DataConfig(name=str(path / "grey.npy"), fit="stretch")
    config = RunConfig(model=MODEL, data=data, epochs=1, compile="never", device="cpu")
    train(config, path / "run")
    pictures = path / "pictures"
    (pictures / "inner").mkdir(parents=True)
    for name, shape in {"b.png": (6, 5), "a.PNG": (6, 5, 3), "inner/c.png": (12, 10)}.items():
        Image.fromarray(RANDOM.integers(256, size=shape, dtype=np.uint8)).save(pictures / name)
    (pictures / "notes.txt").write_text("no picture")
    return path


def grey_of(path):
    return np.asarray(Image.open(path).convert("L"))


def test_pictures_have_their_names_and_order_and_the_shape_of_the_model(folder, capsys):
    pictures = folder / "pictures"
    paths = [pictures / "inner" / "c.png", pictures]
    dataset = given(paths, DataConfig(name="own", fit="stretch"), (1, 6, 5), MODEL.observation)
    images = dataset.test
    assert images.names == ("c.png", "a.PNG", "b.png", "inner/c.png")
    assert (dataset.name, dataset.binarization) == ("4 pictures", "none")
    for place, name in ((1, "a.PNG"), (2, "b.png")):
        assert (abs(images.levels[place, 0].numpy() - grey_of(pictures / name)) <= 1).all()
    small = Image.open(paths[0]).resize((5, 6), Image.Resampling.LANCZOS)
    assert np.array_equal(images.levels[0, 0], np.asarray(small))
    assert np.array_equal(images.levels[0], images.levels[3])
    assert "2 of 4 pictures are stretched and brought to" in capsys.readouterr().err
    colour = given(paths[:1], DataConfig(name="own"), (3, 6, 5), MODEL.observation)
    assert (colour.test.levels[0, 0] == colour.test.levels[0, 2]).all()
    twice = given([pictures / "b.png"] * 2, DataConfig(name="own"), (1, 6, 5), MODEL.observation)
    assert twice.test.names == (str(pictures / "b.png"),) * 2


def test_encode_writes_names_in_the_order_of_input(folder, capsys):
    pictures, out = folder / "pictures", folder / "means.npz"
    given = (pictures / "b.png", pictures / "a.PNG")
    encode(str(folder / "run"), Subject(device="cpu"), pictures=given, out=out)
    assert "2 pictures as vectors of 2" in capsys.readouterr().out
    with np.load(out) as found:
        assert found["names"].tolist() == ["b.png", "a.PNG"]
        assert str(found["split"]) == "pictures"
        model = Run.at(folder / "run").model()
        x = np.stack([grey_of(path) for path in given])[:, None].astype(np.float32) / 255
        import torch

        direct = model.infer(torch.from_numpy(x), trace=True).latents
        assert direct is not None
        assert np.allclose(found["means"], direct[0].q.loc.detach(), atol=0.02)


def test_evaluate_lists_each_picture_and_leaves_the_results_alone(folder, capsys):
    run, picture = Run.at(folder / "run"), folder / "pictures" / "b.png"
    evaluate(str(run.path), Options(num_samples=3), pictures=(picture,))
    shown = capsys.readouterr().out
    assert run.results() is None
    (path,) = (run.path / "evaluation").glob("pictures-*-K3-seed0.json")
    results = json.loads(path.read_text())
    assert results["names"] == ["b.png"]
    assert (results["split"], results["dataset"]) == ("pictures", "1 picture")
    assert results["elbo"]["stderr"] is None
    assert results["active_units"] == [None]
    values, _ = load_tensors(path.with_suffix(".safetensors"))
    assert f"{-values['elbo'].item():.2f}" in shown
    assert "± -" in shown


def test_other_images_are_brought_to_the_shape_of_the_model(folder, capsys):
    own = folder / "coloured"
    own.mkdir()
    for number in range(30):
        levels = RANDOM.integers(256, size=(12, 10, 3), dtype=np.uint8)
        Image.fromarray(levels).save(own / f"{number}.png")
    run = str(folder / "run")
    assert main(["encode", run, "--data.name", str(own), "--out", str(folder / "c.npz")]) == 0
    assert "brought to the model's 5 x 6" in capsys.readouterr().err
    with np.load(folder / "c.npz") as found:
        assert len(found["names"]) == len(found["means"]) > 0
        assert all((own / name).is_file() for name in found["names"])


def test_reconstruct_draws_pictures_with_their_names(folder, capsys):
    from limner.commands.pictures import Options as Pictures
    from limner.commands.reconstruct import reconstruct

    out = folder / "drawn"
    reconstruct(str(folder / "run"), Pictures(out=out), pictures=(folder / "pictures",))
    (drawn,) = out.glob("reconstructions-pictures-*.svg")
    assert drawn.with_suffix(".png").is_file()
    assert "inner/c.png" in drawn.read_text()
    capsys.readouterr()


def test_what_is_no_picture_is_named_in_a_sentence(folder, capsys):
    pictures, run = folder / "pictures", str(folder / "run")
    broken = folder / "broken.png"
    broken.write_bytes((pictures / "a.PNG").read_bytes()[:60])
    (folder / "empty").mkdir()
    for path, word in {
        pictures / "notes.txt": "notes.txt",
        broken: "broken.png",
        folder / "absent.png": "absent.png",
        folder / "empty": "no pictures in",
    }.items():
        assert main(["encode", run, str(pictures / "b.png"), str(path)]) == 2
        shown = capsys.readouterr().err
        assert word in shown
        assert "Traceback" not in shown
    skipping = DataConfig(name="own", skip_damaged=True)
    paths = [broken, pictures / "b.png"]
    assert given(paths, skipping, (1, 6, 5), MODEL.observation).test.names == ("b.png",)
    assert "Left out" in capsys.readouterr().err


def test_a_folder_is_read_by_content_and_what_is_left_out_is_counted(folder, tmp_path, capsys):
    picture = folder / "pictures" / "b.png"
    (tmp_path / "noext").write_bytes(picture.read_bytes())
    (tmp_path / "z.txt").write_bytes(picture.read_bytes())
    (tmp_path / "notes.md").write_text("no picture")
    dataset = given([tmp_path], DataConfig(name="own"), (1, 6, 5), MODEL.observation)
    assert dataset.test.names == ("noext", "z.txt")
    assert "Left out: 1 .md." in capsys.readouterr().err
    (tmp_path / "bad.png").write_bytes(picture.read_bytes()[:60])
    run = str(folder / "run")
    assert main(["encode", run, str(tmp_path), "--out", str(tmp_path / "o.npz")]) == 2
    assert "--data.skip-damaged" in capsys.readouterr().err
    flags = ["--data.skip-damaged", "--out", str(tmp_path / "o.npz")]
    assert main(["encode", run, str(tmp_path), *flags]) == 0
    assert np.load(tmp_path / "o.npz")["names"].tolist() == ["noext", "z.txt"]


def test_the_range_of_arrays_is_not_that_of_pictures(folder):
    config = DataConfig(name="arrays.npy", range=(-1, 1))
    picture = folder / "pictures" / "b.png"
    dataset = given([picture], config, (1, 6, 5), MODEL.observation)
    assert (abs(dataset.test.levels[0, 0].numpy() - grey_of(picture)) <= 1).all()


def test_black_and_white_models_see_black_and_white(folder, capsys):
    picture, binary = folder / "pictures" / "b.png", DataConfig(name="own", binarization="none")
    dataset = given([picture], binary, (1, 6, 5), "bernoulli")
    assert dataset.binarization == "threshold"
    assert "from 128 on" in capsys.readouterr().err
    assert given([picture], DataConfig(), (1, 6, 5), "bernoulli").binarization == "dynamic"


@pytest.mark.parametrize("count", [3, 4, 14])
def test_a_handful_of_images_is_enough(count, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("few.npy", RANDOM.integers(256, size=(count, 6, 5), dtype=np.uint8))
    flags = "--epochs 1 --device cpu --compile never --evaluate-samples 2 --out run"
    flags += " --model.hidden-dims 4 --model.latent-dim 2"
    assert main(f"train vae --data.name few.npy {flags}".split()) == 0
    results = Run.at(tmp_path / "run").results()
    assert results is not None
    assert (results["elbo"]["stderr"] is None) == (results["num_images"] == 1)
    assert main(["compare", "run", "--out", "both"]) == 0
    assert "nan" not in capsys.readouterr().out.lower()


def test_one_image_has_bounds_but_no_error_and_no_variance():
    import torch

    from limner.models import build

    model = build(MODEL, (1, 6, 5)).eval()
    x = torch.rand(2, 1, 6, 5).mul(255).round() / 255
    one, both = evaluate_model(model, x[:1], 2), evaluate_model(model, x, 2)
    assert one.active_units == [None]
    assert torch.isfinite(one.per_image["iw_bound"]).all()
    assert both.active_units != [None]


def test_colour_pictures_are_evaluated_one_by_one(tmp_path):
    np.save(tmp_path / "rgb.npy", RANDOM.integers(256, size=(20, 6, 5, 3), dtype=np.uint8))
    data = DataConfig(name=str(tmp_path / "rgb.npy"))
    train(
        RunConfig(model=MODEL, data=data, epochs=1, compile="never", device="cpu"),
        tmp_path / "run",
    )
    Image.fromarray(RANDOM.integers(256, size=(6, 5, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    flags = ["--num-samples", "2"]
    assert main(["evaluate", str(tmp_path / "run"), str(tmp_path / "a.png"), *flags]) == 0
