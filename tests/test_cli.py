"""The command line: fast help, flags from configs, errors of one sentence."""

import json
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from limner.cli import COMMANDS, main
from limner.commands.data import SUBCOMMANDS
from limner.config import RunConfig
from limner.errors import InputError
from limner.models import LadderVAEConfig, VAEConfig
from limner.recipes import RECIPES, STUDY

TINY = "--model.hidden-dims 8 --model.latent-dim 2 --epochs 1 --device cpu --evaluate-samples 2"
DIGITS = "--data.name digits"


def limner(*arguments):
    """Exit status of `limner ARGUMENTS`, split at spaces where they are one string."""
    words = [word for argument in arguments for word in str(argument).split()]
    try:
        return main(words)
    except SystemExit as stopped:
        return stopped.code or 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "vae"
    assert limner("train vae", TINY, DIGITS, "--out", out) == 0
    return out


def test_help_names_every_command(capsys):
    assert limner("--help") == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


WITHOUT_TORCH = """
import sys
from contextlib import suppress
from limner.cli import COMMANDS, main
helps = [[name, "--help"] for name in COMMANDS] + [["data", name, "--help"] for name in {data}]
for words in [*helps, ["train", "draw", "--help"], *{lists}]:
    with suppress(SystemExit):
        main(words)
    heavy = {heavy} & set(sys.modules)
    assert not heavy, (words, heavy)
"""


def test_help_and_lists_import_no_torch_and_fit_80_columns():
    lists = [["models"], ["recipes"], ["recipes", "draw"], ["data", "list"], ["study", "--list"]]
    code = WITHOUT_TORCH.format(
        data=list(SUBCOMMANDS), lists=lists, heavy={"torch", "numpy", "matplotlib", "sklearn"}
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    widest = max(done.stdout.splitlines(), key=len)
    assert len(widest) <= 80, widest
    for none in ("{None}", "(default: )", "(default: None)", "`load`"):
        assert none not in done.stdout


@pytest.mark.parametrize("name", ["iwae-vae", "draw-20-steps", "comparison-draw-attention"])
def test_the_flags_that_a_recipe_shows_make_its_config(name, monkeypatch, capsys):
    class Asked(Exception):
        pass

    def train(config, *_, **__):
        raise Asked(config)

    monkeypatch.setattr("limner.training.launch.train", train)
    assert limner("recipes", name) == 0
    command = capsys.readouterr().out.partition("\nlimner ")[2]
    with pytest.raises(Asked) as asked:
        main(shlex.split(command.replace("\\\n", " ")))
    assert asked.value.args == (RECIPES[name].config,)


def test_a_config_names_its_settings_in_python():
    wrong = {
        "RunConfig.epochs must be greater than 0; got 0.": {"epochs": 0},
        "RunConfig: a run needs a budget; give epochs or minutes.": {},
        "RunConfig has no setting 'epoch'; did you mean epochs? Otherwise remove it.": {
            "epochs": 1,
            "epoch": 3,
        },
    }
    for sentence, settings in wrong.items():
        with pytest.raises(InputError) as refused:
            RunConfig(model=VAEConfig(), **settings)
        assert str(refused.value) == sentence
    with pytest.raises(
        InputError, match=r"LadderVAEConfig: hidden_dims gives 5 layers, and latent"
    ):
        LadderVAEConfig(latent_dims=(3, 2))


def test_the_package_runs_as_the_command():
    command = [sys.executable, "-m", "limner", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: limner")


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "data"])
def test_every_command_has_help(command, capsys):
    assert limner(command, "--help") == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_flags_change_the_config_and_a_config_repeats_the_run(run, tmp_path):
    config = RunConfig.read(run / "config.json")
    assert (config.model.kind, config.epochs, config.data.name) == ("vae", 1, "digits")
    assert limner("train --config", run / "config.json", "--out", tmp_path / "again") == 0
    first, again = (json.loads((p / "results.json").read_text()) for p in (run, tmp_path / "again"))
    assert first["elbo"] == again["elbo"]


def test_an_interrupt_that_python_ignores_comes_once_more(monkeypatch):
    class Interrupted:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def command(*_):
        Interrupted()
        time.sleep(2)
        pytest.fail("The interrupt is lost, or wakes nobody.")

    monkeypatch.setattr("limner.cli._run", command)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell has none
    try:
        assert limner("models") == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_results_say_what_they_are_about(run):
    results = json.loads((run / "results.json").read_text())
    for name in ("elbo", "reconstruction", "kl", "iw_bound"):
        assert {"mean", "stderr"} <= results[name].keys()
    assert results["iw_bound"]["num_samples"] == 2
    assert results["elbo"]["mean"] == pytest.approx(
        results["reconstruction"]["mean"] - results["kl"]["mean"], abs=1e-4
    )
    about = ("dataset", "split", "binarization", "num_images", "seed", "parameters", "versions")
    assert all(results[name] is not None for name in about)
    assert (results["dataset"], results["split"], results["num_images"]) == ("digits", "test", 250)


def sizes(folder):
    for index, size in enumerate([(8, 8), (8, 8), (9, 8)]):
        Image.new("L", size).save(folder / f"{index}.png")


def no_image(folder):
    (folder / "letter.png").write_text("Dear reader")


def out_of_range(folder):
    np.savez(folder / "a.npz", images=np.full((20, 4, 4), 1.5))


def objects(folder):
    np.savez(folder / "a.npz", images=np.array([{}, {}], dtype=object))


def grey(folder):
    np.savez(folder / "a.npz", images=np.random.default_rng(0).random((40, 4, 4)))


BAD_FILES = {
    "sizes": (sizes, "{folder}", "size"),
    "empty": (lambda folder: None, "{folder}", "no"),
    "no image": (no_image, "{folder}", "letter.png"),
    "out of range": (out_of_range, "{folder}/a.npz", "1.5"),
    "objects": (objects, "{folder}/a.npz", "object"),
    "no density": (grey, "{folder}/a.npz --model.observation bernoulli", "binarization"),
    "files missing": (lambda folder: None, "mnist --data.root {folder}", "train-images"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_images_are_told_in_a_sentence(case, tmp_path, capsys):
    make, name, word = BAD_FILES[case]
    folder = tmp_path / "images"
    folder.mkdir()
    make(folder)
    out = tmp_path / "run"
    assert limner("train vae", TINY, "--data.name", name.format(folder=folder), "--out", out) == 2
    told = capsys.readouterr().err
    assert word in told
    assert "Traceback" not in told
    waits = ("reading ", "loading ", "preparing ")
    (sentence,) = [line for line in told.splitlines() if not line.startswith(waits)]
    assert sentence.startswith("limner: ")
    assert not out.exists()


BAD_FLAGS = {
    "train nothing": "no model",
    "train": "what to train",
    "train --recipe none": "no recipe",
    "train --config none.json": "none.json",
    "train draw --data.name none": "no dataset",
    "train draw --model.num-steps 0": "--model.num-steps must be greater than 0; got 0.",
    "train draw --model.attention filterbank --model.read-size 0": "--model.read-size must",
    "train draw --model.write-size 0": "--model.write-size must",
    "train draw --model.nonsense 3": "nonsense",
    "train ladder-vae --model.latent-dims 3 2": "--model.latent-dims gives 2; give both",
    "train vae --epochs 0": "limner: --epochs must be greater than 0; got 0.",
    "train draw --growth 0.5 20": "The steps of --growth must rise, up to the model's 10.",
    "train draww": "did you mean draw?",
    "train --recipe quick-drew": "did you mean quick-draw?",
    "train vae --data.name mnst": "did you mean mnist?",
    "evaluate mnist-drew": "did you mean mnist-draw?",
    "recipes quick-drew": "did you mean quick-draw?",
    "data lst": "did you mean data list?",
    "trian": "did you mean train?",
    "train vae --model.observation gaussian --data.name digits": "binarization",
    "train --resume --out none": "none",
    "train vae --out /proc/limner": "/proc/limner",
    "evaluate none": "no run folder",
    "compare none": "no run folder",
    "compare none --epochs 3": "leave out --epochs",
    "compare none --data.name digits": "give only --data.root",
    "compare --seeds": "several different ones",
    "compare --seeds 1 1": "several different ones",
    "compare --evaluate-samples 0": "--evaluate-samples must be above zero",
    "compare --data.name none": "no dataset",
    "paint": "no command",
}


@pytest.mark.parametrize("arguments", BAD_FLAGS)
def test_bad_flags_are_told_in_a_sentence(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert limner(arguments) == 2
    told = capsys.readouterr().err
    assert BAD_FLAGS[arguments] in " ".join(told.split())
    assert "Traceback" not in told
    assert not list(tmp_path.iterdir())


def test_minutes_alone_are_the_budget_however_they_are_written(tmp_path):
    for number, flag in enumerate(["--minutes 0.001", "--minutes=0.001"]):
        out = tmp_path / str(number)
        model = "--model.hidden-dims 8 --model.latent-dim 2 --evaluate-samples 2 --device cpu"
        assert limner("train vae", model, DIGITS, flag, "--out", out) == 0
        config = RunConfig.read(out / "config.json")
        assert (config.epochs, config.minutes) == (None, 0.001)


def test_a_comparison_is_not_lost_to_bad_input(run, tmp_path, capsys):
    (tmp_path / "study.json").write_text("{}")
    (tmp_path / "vae").mkdir()
    assert limner("compare --overwrite --data.name none --out", tmp_path) == 2
    assert limner("compare --overwrite --seeds -1 --out", tmp_path) == 2
    assert limner("compare", run, "--out", tmp_path) == 2
    assert limner("compare", run, "--out", run) == 2
    assert "holds a run" in capsys.readouterr().err
    assert (tmp_path / "vae").is_dir()


def test_results_of_raw_weights_say_so(tmp_path):
    assert limner("train vae", TINY, DIGITS, "--ema-decay 0 --out", tmp_path / "run") == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text())["weights"] == "raw"


def test_damaged_runs_are_told_in_a_sentence(run, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert limner("evaluate", empty) == 2
    assert "config.json" in capsys.readouterr().err
    assert limner("train vae", TINY, DIGITS, "--out", run) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_images_of_another_shape_than_the_models_are_refused(run, capsys):
    assert limner("evaluate", run, "--data.name mnist-5k") == 2
    assert "8" in capsys.readouterr().err


@pytest.mark.slow
def test_compare_trains_four_models_alike_and_shows_them(tmp_path, capsys, monkeypatch):
    narrow = {
        "VAE": {"hidden_dims": (32,)},
        "Ladder VAE": {"hidden_dims": (32, 16), "latent_dims": (8, 4)},
        "DRAW": {"num_steps": 3, "hidden_dim": 32},
        "DRAW with attention": {"num_steps": 3, "hidden_dim": 32},
    }
    for name, widths in narrow.items():
        few = STUDY[name].with_(model=STUDY[name].model.with_(**widths))
        monkeypatch.setitem(STUDY, name, few)
    out = tmp_path / "study"
    flags = "--data.name digits --epochs 1 --evaluate-samples 2 --compile never --jobs 1"
    assert limner("compare --out", out, flags) == 0
    comparison = json.loads((out / "results.json").read_text())
    rows = comparison["rows"]
    assert [row["kind"] for row in rows] == ["vae", "ladder-vae", "draw", "draw"]
    assert sum(row["difference_to_best"] is None for row in rows) == 1
    best = max(rows, key=lambda row: row["elbo"]["mean"])
    for row in rows:
        gap = row["difference_to_best"]
        expected = row["elbo"]["mean"] - best["elbo"]["mean"]
        assert (gap["mean"] if gap else 0.0) == pytest.approx(expected, abs=1e-6)
    assert "<html" in (out / "report.html").read_text()
    assert limner("compare --out", out, flags) == 2
    assert "--overwrite" in capsys.readouterr().err
    runs = [str(out / name) for name in ("vae", "draw")]
    assert limner("compare", *runs, "--out", tmp_path / "two") == 0
