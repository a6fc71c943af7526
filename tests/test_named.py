"""Models that come with Limner: published, loaded by name, never written to, in the wheel."""

import importlib.util
import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hatchling.builders.wheel import WheelBuilder

import limner
from limner import InputError, VAEConfig
from limner.cli import main
from limner.config import RunConfig
from limner.data import DataConfig, seen_in_training
from limner.storage import load_tensors, save_tensors
from limner.training import named, train
from limner.training.runs import Run

ROOT = Path(__file__).parents[1]
NAME = "digits-vae"
MADE = {"commit": "0123abc", "hardware": "an abacus"}


def script():
    """tools/publish.py as a module."""
    spec = importlib.util.spec_from_file_location("publish", ROOT / "tools" / "publish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny(**changes):
    config = RunConfig(
        model=VAEConfig(hidden_dims=(8,), latent_dim=2),
        data=DataConfig(name="digits"),
        epochs=2,
        evaluate_samples=2,
        device="cpu",
        seed=3,
    )
    return config.with_(**changes)


@contextmanager
def models_in(folder):
    """A Limner that knows the models of a folder by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(named, "FOLDER", folder)
        yield


def press(place):
    """The script, publishing under `place`."""

    def publish(run, name, **options):
        script().publish(str(run), name=name, home=place / "results", **MADE | options)

    return publish


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("own") / "run"
    run = train(tiny(data=DataConfig(name="digits", root=out.parent)), out)
    assert main(["evaluate", str(out), "--num-samples", "2"]) == 0
    return run


@pytest.fixture(scope="module")
def published(trained, tmp_path_factory):
    """What the script writes: results and weights."""
    place = tmp_path_factory.mktemp("published")
    with models_in(place / "weights"):
        press(place)(trained.path, NAME, target="20 (ELBO)")
    return place


@pytest.fixture
def known(published, tmp_path, monkeypatch):
    """A user's folder, and a Limner that knows the name."""
    monkeypatch.chdir(tmp_path)
    with models_in(published / "weights"):
        yield tmp_path


def same(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_name_loads_the_averaged_weights_of_its_run(known, trained):
    model = limner.load(NAME)
    assert not model.training
    assert same(model, trained.model())
    assert not same(model, trained.model(weights="raw"))
    assert same(model, limner.load(named.FOLDER / NAME))
    for refused in ({"weights": "raw"}, {"checkpoint": "last"}):
        with pytest.raises(InputError, match="only"):
            limner.load(NAME, **refused)


def test_an_existing_path_wins_over_a_name(known):
    (known / NAME).mkdir()
    with pytest.raises(InputError, match="not a run folder"):
        limner.load(NAME)
    (known / NAME).rmdir()
    own = train(tiny(seed=4), Path(NAME))
    assert same(limner.load(NAME), own.model())


def test_an_unknown_name_is_told_those_that_there_are(known):
    with pytest.raises(
        InputError, match="no run folder and no trained model nobody; limner models"
    ):
        limner.load("nobody")
    with (
        models_in(known / "nowhere"),
        pytest.raises(InputError, match="no run folder and no trained model nobody"),
    ):
        limner.load("nobody")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


COMMANDS = {
    "evaluate": "--num-samples 2",
    "sample": "--n 4",
    "reconstruct": "--n 4",
    "interpolate": "",
    "encode": "",
    "probe": "--num-train 100 --num-test 50",
    "animate": "--grid 1 2 --magnification 1 --show samples",
    "figures": "--max-images 20 --projection pca --formats png",
    "report": "",
    "compress": f"--num-images 4 --out {named.OUTPUTS / NAME / 'some.lim'}",
}


@pytest.mark.slow
def test_every_command_takes_a_name_and_writes_beside_the_package(known, published, capsys):
    before = contents(published)
    for command, flags in COMMANDS.items():
        assert main([command, NAME, *flags.split()]) == 0, command
    assert main(["models"]) == 0
    assert NAME in capsys.readouterr().out
    assert main(["train", "--resume", "--out", NAME]) == 2
    assert contents(published) == before
    assert [path.name for path in known.iterdir()] == ["runs"]
    made = {path.relative_to(known / named.OUTPUTS / NAME) for path in contents(known)}
    assert {Path("results.json"), Path("test.npz"), Path("probe.json")} <= made


@pytest.fixture
def place(published, tmp_path):
    """A copy of what was published, to publish more in."""
    copy = tmp_path / "place"
    shutil.copytree(published, copy)
    with models_in(copy / "weights"):
        yield copy


def evaluated(config, out, **options):
    """A run that was trained and evaluated."""
    run = train(config, out, **options)
    assert main(["evaluate", str(out), "--num-samples", "2"]) == 0
    return run.path


def test_the_trainings_behind_a_model_are_told_together(place, tmp_path):
    run = evaluated(tiny(start_from=NAME, epochs=3), tmp_path / "run")
    press(place)(run, "more", weights=False)
    page = (place / "results" / "README.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| [more]"))
    assert "| 0.00 + 0.00 |" in row
    told = (place / "results" / "more" / "README.md").read_text()
    assert f", from the weights of {NAME} (2 epochs, " in told


def test_only_what_others_have_may_have_been_started_from(place, trained, tmp_path):
    run = evaluated(tiny(start_from=str(trained.path)), tmp_path / "run")
    with pytest.raises(InputError, match=r"Others do not have .*; publish it first"):
        press(place)(run, "more")
    assert not (place / "results" / "more").exists()


def test_a_start_without_weights_is_trained_by_the_command_of_its_results(
    place, trained, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    publish = press(place)
    shutil.copytree(trained.path, "runs/first")
    evaluated(tiny(start_from="runs/first", epochs=3), Path("runs/more"))
    with pytest.raises(InputError, match="Others do not have runs/first; publish it first"):
        publish("runs/more", "more", weights=False)
    publish("runs/first", "first", weights=False)
    publish("runs/more", "more", weights=False)
    first, more = (
        (place / "results" / name / "README.md").read_text() for name in ("first", "more")
    )
    assert "--out runs/first`" in first
    assert ", from the weights of first (2 epochs, " in more
    with Path("runs/first/metrics.jsonl").open("a") as metrics:
        metrics.write("{}\n")
    with pytest.raises(InputError, match="Others do not have runs/first"):
        publish("runs/more", "more", weights=False)


def test_a_publication_that_fails_leaves_the_one_before(place, trained, tmp_path):
    before, publish = contents(place), press(place)
    run = evaluated(tiny(start_from=NAME), tmp_path / "run")
    with pytest.raises(InputError, match="is what this run started from"):
        publish(run, NAME)
    with pytest.raises(InputError, match="names other weights"):
        publish(trained.path, NAME, weights=False)
    large = shutil.copytree(trained.path, tmp_path / "large")
    metrics = large / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("\n", " " * 2**20 + "\n"))
    with pytest.raises(InputError, match="publish less"):
        publish(large, NAME)
    assert contents(place) == before


def test_numbers_are_published_with_the_weights_that_they_are_of(place, tmp_path):
    evaluated(tiny(), tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    train(tiny(seed=5), tmp_path / "run", overwrite=True)
    (tmp_path / "run" / "results.json").write_text(json.dumps(results))
    with pytest.raises(InputError, match="was trained further since its evaluation"):
        press(place)(tmp_path / "run", "other")


def test_an_evaluation_by_name_repeats_the_published_one(known, trained):
    with pytest.raises(InputError, match="run limner evaluate first"):
        Run.open(NAME).per_image()
    assert main(["evaluate", NAME, "--num-samples", "2", "--data.root", "elsewhere"]) == 0
    again, first = (
        json.loads((named.OUTPUTS / NAME / "results.json").read_text()),
        trained.results(),
    )
    for key in ("elbo", "iw_bound", "epochs", "training_seconds", "trained_with", "num_images"):
        assert again[key] == first[key], key
    assert torch.equal(Run.open(NAME).per_image()["elbo"], trained.per_image()["elbo"])


def test_a_run_knows_what_trained_it_and_a_resumed_one_what_else(trained, tmp_path):
    (maker,) = trained.made()
    assert maker.torch == torch.__version__
    assert trained.results()["trained_with"] == [maker.model_dump()]
    other, run = maker.model_copy(update={"hardware": "an abacus"}), Run(tmp_path, trained.config)
    for one in (maker, other, maker):
        run.sign(one)
    assert run.made() == [maker, other]
    (tmp_path / "made.json").write_text("[{")
    assert run.made() == []


def test_what_is_published_says_everything_and_no_path_of_this_disk(published, trained):
    results = json.loads((published / "results" / NAME / "results.json").read_text())
    assert results["elbo"] == trained.results()["elbo"]
    texts = [path.read_text() for path in published.rglob("*.json")]
    page = (published / "results" / NAME / "README.md").read_text()
    table = (published / "results" / "README.md").read_text()
    card = (published / "weights" / NAME / "README.md").read_text()
    for text in (*texts, table, page, card):
        assert str(trained.path.parent) not in text
    weights = (published / "weights" / NAME / "model.safetensors").read_bytes()
    assert str(trained.path.parent).encode() not in weights
    elbo = f"{-results['elbo']['mean']:.2f} ± {results['elbo']['stderr']:.2f}"
    for words in (elbo, "L_2", "dynamic", "250 test", *MADE.values(), "seed 3", "--num-samples 2"):
        assert words in card, words
        assert words in page, words
    assert "- Target: 20 (ELBO)\n" in page
    assert f"| [{NAME}](./{NAME}/README.md) | {elbo} |" in table
    assert f"limner train --config results/{NAME}/config.json  --out runs/{NAME}\n" in table
    assert "Licence" in card
    assert "Limits" in card
    assert len(list((published / "results" / NAME).glob("*.png"))) > 4


def test_a_training_that_was_cut_short_says_so_beside_the_right_figure(trained):
    publish = script()
    results = trained.results() | {"dataset": "mnist", "epochs": 1.5} | {
        "trained_with": [MADE], "evaluated_with": MADE
    }  # fmt: skip
    entry = publish.Entry("cut", trained.config, results)
    assert "| 86.76 (-L_5000, dynamic) |" in publish.page([entry])
    assert "| 1.5 of 2 |" in publish.page([entry])
    assert ": 1.5 of 2 epochs in " in publish.run_page(entry)
    static = entry._replace(results=results | {"binarization": "static"})
    assert "| 88.71 (-L_5000, static) |" in publish.page([static])
    assert "## mnist, static binarization\n" in publish.page([static])
    assert "dynamic binarization\n" not in publish.page([static])
    few = entry._replace(results=results | {"dataset": "mnist-5k"})
    assert publish.counterpart(few) is None


def test_what_nobody_can_repeat_is_not_published(trained, tmp_path):
    publish = press(tmp_path)
    with pytest.raises(InputError, match="small letters"):
        publish(trained.path, "../up")
    unsigned = shutil.copytree(trained.path, tmp_path / "unsigned")
    (unsigned / "made.json").unlink()
    with pytest.raises(InputError, match="pass --commit and --hardware"):
        publish(unsigned, NAME, commit=None)
    assert list(tmp_path.iterdir()) == [unsigned]


@pytest.mark.parametrize(("on", "seen"), [("mnist", True), ("mnist-5k", False)])
def test_numbers_on_digits_that_were_trained_on_say_so(on, seen, tmp_path, capsys):
    """Trained on the digits at hand, under the name `on`."""
    run = train(tiny(data=DataConfig(name="mnist-5k"), epochs=1), tmp_path / "run")
    config = run.config.with_(data=DataConfig(name=on))
    (run.path / "config.json").write_text(config.to_json())
    for path in run.path.rglob("*.safetensors"):
        tensors, document = load_tensors(path)
        save_tensors(path, tensors, document | {"config": config.model_dump(mode="json")})
    flags = ["--num-samples", "1", "--num-images", "50", "--data.name", "mnist-5k"]
    assert main(["evaluate", str(run.path), *flags]) == 0
    (path,) = (run.path / "evaluation").glob("*first50-*.json")
    note = json.loads(path.read_text()).get("note")
    assert note == seen_in_training(on, "mnist-5k")
    told = " ".join(capsys.readouterr().err.split())
    assert (note in told) if seen else (note is None)


def test_the_wheel_carries_the_weights(published, tmp_path):
    """By the project's own rules, on a tree of its kind that holds some."""
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path)
    home = tmp_path / "src" / "limner"
    shutil.copytree(published / "weights", home / named.FOLDER.name)
    (home / "__init__.py").touch()
    assert named.FOLDER.parent == ROOT / "src" / "limner"
    files = {
        file.distribution_path for file in WheelBuilder(str(tmp_path)).recurse_included_files()
    }
    names = (
        "model.safetensors",
        "config.json",
        "metrics.jsonl",
        "made.json",
        "results.json",
        "README.md",
    )
    assert {f"limner/weights/{NAME}/{name}" for name in names} <= files


@pytest.mark.parametrize("name", named.names())
def test_the_weights_that_come_with_limner_know_their_config(name, capsys):
    run = Run.open(name)
    assert run.model().num_parameters == run.results()["parameters"]
    assert capsys.readouterr().err == "", "a config that differs is warned of"
