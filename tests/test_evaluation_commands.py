"""`limner evaluate`, `encode`, `probe` and `interpolate` on runs of small PNG files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from limner import DRAWConfig, InputError, VAEConfig
from limner.cli import main
from limner.commands.encode import encode
from limner.commands.evaluate import Options, evaluate
from limner.commands.interpolate import interpolate
from limner.commands.options import Images, Subject
from limner.commands.probe import probe
from limner.config import RunConfig
from limner.data import DataConfig, frozen
from limner.evaluation import comparison, evaluate_model
from limner.evaluation.comparison import SAME, comparison_table
from limner.evaluation.tables import groups_rows, results_rows
from limner.figures import style
from limner.storage import load_tensors, save_tensors
from limner.training import train

MODELS = {
    "vae": VAEConfig(hidden_dims=(8,), latent_dim=3),
    "draw": DRAWConfig(num_steps=3, hidden_dim=8, latent_dim=2),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two trained runs, of 6x5 PNG files of bars whose column is their class."""
    path = tmp_path_factory.mktemp("runs")
    random = np.random.default_rng(0)
    for column in range(4):
        for number in range(40):
            split = "train" if number < 32 else "validation" if number < 36 else "test"
            (path / "bars" / split / str(column)).mkdir(parents=True, exist_ok=True)
            levels = random.integers(60, size=(6, 5))
            levels[:, column] += 190
            file = path / "bars" / split / str(column) / f"{number}.png"
            Image.fromarray(levels.astype(np.uint8)).save(file)
    for name, model in MODELS.items():
        config = RunConfig(
            model=model,
            data=DataConfig(name=str(path / "bars"), binarization="dynamic"),
            epochs=3,
            batch_size=20,
            compile="never",
            device="cpu",
        )
        train(config, path / name)
    return path


def run(folder, name):
    from limner.training.runs import Run

    return Run.open(folder / name)


def test_evaluate_writes_the_results_of_the_run(folder, capsys):
    vae = run(folder, "vae")
    evaluate(str(vae.path), Options(num_samples=4, device="cpu"))
    results = vae.results()
    x = frozen(vae.dataset(), "test", "bernoulli")
    values, document = load_tensors(vae.path / "per_image.safetensors")
    direct = evaluate_model(vae.model(), x, num_samples=4)
    assert document == results
    assert results["num_images"] == len(x) == 16
    for name in ("elbo", "iw_bound"):
        assert torch.equal(values[name], direct.per_image[name])
        assert results[name]["mean"] == pytest.approx(values[name].mean().item())
    about = ("model", "split", "checkpoint", "weights", "binarization", "seed", "draw_seed")
    assert [results[key] for key in about] == ["vae", "test", "best", "ema", "dynamic", 0, 0]
    assert results["epochs"] == 3
    assert results["training_seconds"] > 0
    assert (vae.path / "evaluation" / "K4-seed0.json").read_text() == (
        vae.path / "results.json"
    ).read_text()
    shown = capsys.readouterr().out
    assert "-L_4" in shown
    assert "results.json" in shown


def test_other_evaluations_say_so_and_leave_the_results_alone(folder, capsys):
    draw = run(folder, "draw")
    evaluate(str(draw.path), Options(num_samples=2))
    before = (draw.path / "results.json").read_bytes()
    options = Options(
        num_samples=2,
        num_images=7,
        split="validation",
        checkpoint="last",
        weights="raw",
        num_steps=5,
        per_step=True,
        seed=1,
    )
    evaluate(str(draw.path), options)
    assert (draw.path / "results.json").read_bytes() == before
    name = "validation-last-raw-steps5-first7-K2-seed1"
    results = json.loads((draw.path / "evaluation" / f"{name}.json").read_text())
    values, _ = load_tensors(draw.path / "evaluation" / f"{name}.safetensors")
    assert results["num_images"] == 7
    assert results["split"] == "validation"
    assert len(results["kl_per_group"]) == len(results["elbo_per_step"]) == 5
    assert results["elbo_per_step"][-1]["mean"] == pytest.approx(values["elbo"].mean().item())
    assert "-ELBO up to here" in capsys.readouterr().out


def test_an_interrupted_evaluation_is_continued_by_the_command(folder):
    """128 images are three blocks, of which two were evaluated; one of their values is changed."""
    draw, options = run(folder, "draw"), Options(num_samples=3, split="train")
    path = draw.path / "evaluation" / "train-K3-seed0.json"
    evaluate(str(draw.path), options)
    whole, values = json.loads(path.read_text()), load_tensors(path.with_suffix(".safetensors"))[0]
    x = frozen(draw.dataset(), "train", "bernoulli")

    def stop(done, figures):
        if done == 100:
            raise KeyboardInterrupt

    def interrupt():
        path.unlink()
        with pytest.raises(KeyboardInterrupt):
            evaluate_model(draw.model(), x, 3, partial_folder=path.parent, report=stop)
        (partial,) = path.parent.glob("partial-*")
        return partial

    interrupt()
    evaluate(str(draw.path), options)
    resumed = json.loads(path.read_text())
    for results in (whole, resumed):
        results.pop("evaluation_seconds")
    assert resumed == whole

    partial = interrupt()
    kept, document = load_tensors(partial)
    kept["elbo"][7] -= 1
    save_tensors(partial, kept, document)
    evaluate(str(draw.path), options)
    changed = load_tensors(path.with_suffix(".safetensors"))[0]["elbo"] != values["elbo"]
    assert changed.nonzero().tolist() == [[7]], "what was evaluated is not evaluated again"
    assert not partial.exists()


def test_encode_writes_means_labels_split_and_config(folder, tmp_path):
    draw, out = run(folder, "draw"), tmp_path / "codes.npz"
    encode(str(draw.path), out=out, groups=(1, 3), num_images=9)
    with np.load(out) as file:
        assert file["means"].shape == (9, 4)
        assert (file["labels"] == draw.dataset().test.labels[:9].numpy()).all()
        assert str(file["split"]) == "test"
        assert RunConfig.parse(json.loads(str(file["config"]))) == draw.config
    encode(str(draw.path), features=True, split="validation")
    with np.load(draw.path / "validation.npz") as file:
        assert file["means"].shape == (16, 8)


def test_probe_beside_pixels_and_components_of_the_same_size(folder, capsys):
    vae = run(folder, "vae")
    probe(str(vae.path))
    found = json.loads((vae.path / "probe.json").read_text())
    assert (found["num_train"], found["num_test"]) == (128, 16)
    dims = {name: probed["dims"] for name, probed in found["probes"].items()}
    assert dims == {"posterior means": 3, "PCA of pixels": 3, "raw pixels": 30}
    pixels = found["probes"]["raw pixels"]["linear"]
    assert pixels["value"] > 0.9
    assert pixels["low"] < pixels["value"] <= pixels["high"]
    assert "nearest neighbours" in capsys.readouterr().out


def test_interpolate_draws_a_row_for_each_walk(folder, tmp_path, monkeypatch):
    draw, saved, drawn, save = run(folder, "draw"), [], [], style.save

    def kept(made, *place, **heading):
        drawn.append(made)
        saved.append((place, heading))
        return save(made, *place, **heading)

    monkeypatch.setattr(style, "save", kept)
    interpolate(str(draw.path), frames=4)
    assert (draw.path / "figures" / "interpolation.png").is_file()
    interpolate(str(draw.path), images=(0, 3), frames=4, walks="line", out=tmp_path / "between.png")
    ((folder, name, formats), heading), (axes,) = saved[-1], drawn[-1].axes
    assert (folder / f"{name}.{formats[0]}").is_file()
    assert "images 0 and 3" in heading["title"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["on a line"]
    page = axes.images[0].get_array()[:6, :, 0]
    x = (255 * frozen(draw.dataset(), "test", "bernoulli")).numpy()
    assert (page[:, :5] == x[0, 0]).all()
    assert (page[:, -5:] == x[3, 0]).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "draw", "--num-images", "17"], "has 16 images"),
        (["evaluate", "draw", "--num-images", "0"], "at least one image"),
        (["evaluate", "draw", "--num-samples", "0"], "at least one"),
        (["evaluate", "vae", "--num-steps", "1"], "leave out --num-steps"),
        (["evaluate", "vae", "--per-step"], "leave out --per-step"),
        (["evaluate", "nowhere"], "no run folder"),
        (["encode", "draw", "--groups", "4"], "groups 1 to 3"),
        (["encode", "draw", "--out", "codes.txt"], ".npz"),
        (["encode", "draw", "--num-images", "0"], "at least one image"),
        (["probe", "draw", "--num-train", "0"], "at least one train image"),
        (["interpolate", "draw", "--images", "0", "16"], "images 0 to 15"),
        (["interpolate", "draw", "--frames", "1"], "at least 2"),
        (["interpolate", "draw", "--out", "walk.gif"], ".png"),
    ],
)
def test_refusals_are_sentences_and_exit_with_2(folder, arguments, sentence, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err


def test_probe_refuses_images_without_labels(folder):
    levels = run(folder, "vae").dataset().train.levels
    np.save(folder / "unlabelled.npy", levels.numpy())
    with pytest.raises(InputError, match="has no labels"):
        probe(str(folder / "vae"), Subject(data=Images(name=str(folder / "unlabelled.npy"))))


def test_runs_with_other_draws_of_the_test_pixels_are_not_paired():
    results = [dict.fromkeys(SAME, "alike") | {"draw_seed": seed} for seed in (0, 0, 1)]
    comparison._refuse_unlike(results[:2])
    with pytest.raises(InputError, match="their draw_seed is 0 and 1"):
        comparison._refuse_unlike(results)


def test_a_table_says_k_where_runs_differ_in_it():
    figure = {"mean": -90.0, "stderr": 0.2}
    row = {
        "difference_to_best": None, "elbo": figure, "reconstruction": figure, "kl": figure,
        "bits_per_dim": {"elbo": figure}, "parameters": 7, "training_seconds": None,
        "images_per_second": None,
    }  # fmt: skip
    rows = [row | {"name": name, "iw_bound": figure | {"num_samples": k}}
            for name, k in (("a", 5), ("b", 10))]  # fmt: skip
    first, *columns = comparison_table(rows, "").columns
    headings = [*first.cells]
    assert "-L_K" in headings
    assert headings[-1] == "K"
    assert [[*column.cells][-1] for column in columns] == ["5", "10"]
    assert "-L_5" in comparison_table(rows[:1], "").columns[0].cells


@pytest.mark.parametrize(("images", "few"), [(20, True), (10_000, False)])
def test_active_units_of_few_images_are_called_indicative(images, few):
    results = {
        "group_names": ["z"], "active_units": [2], "latent_units": [3], "kl_per_group": [1.0],
        "elbo_per_step": [{"mean": -90.0, "stderr": 0.5}], "num_images": images,
    }  # fmt: skip
    headings, rows = groups_rows(results)
    assert headings[2] == "active units" + " (20 images: indicative)" * few
    assert rows == [["z", "1.00", "2 of 3", "90.00 ± 0.50"]]


def test_shown_figures_are_costs_that_add_up():
    bits = {"mean": 0.15, "stderr": 0.01}
    results = {
        "elbo": {"mean": -90.0, "stderr": 0.5}, "reconstruction": {"mean": -70.0, "stderr": 0.4},
        "kl": {"mean": 20.0, "stderr": 0.1}, "bits_per_dim": {"elbo": bits},
        "iw_bound": {"mean": -88.0, "stderr": 0.5, "num_samples": 50},
    }  # fmt: skip
    shown = {name: nats for name, nats, _ in results_rows(results)}
    assert list(shown) == ["-ELBO", "-L_50", "reconstruction, -log p(x | z)", "KL"]
    elbo, _, reconstruction, kl = (float(nats.split()[0]) for nats in shown.values())
    assert elbo == reconstruction + kl == 90
