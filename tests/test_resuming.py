"""Continuing a run: which settings may change, and what then happens to the run."""

import shutil
import tempfile

import numpy as np
import pytest
import torch

from limner import InputError
from limner.cli import main
from limner.config import OptimizerConfig
from limner.data import DataConfig
from limner.models import DRAWConfig
from limner.storage import read_document
from limner.training import Run, train
from limner.training.resuming import MAY_CHANGE, adopt, differing, resumed
from limner.training.runs import RunConfig
from test_training import config, stopped_after, weights_of

CONSTANT = OptimizerConfig(schedule="constant", warmup_steps=1)
CHANGES = {
    "epochs": 9,
    "minutes": 3.0,
    "checkpoint_minutes": 1.0,
    "compile": "always",
    "device": "auto",
    "evaluate_samples": 7,
    "trackers": ("tensorboard",),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two epochs."""
    return train(config(optimizer=CONSTANT), tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished, tmp_path):
    return Run.at(shutil.copytree(finished.path, tmp_path / "run"))


def documents(run):
    return {path.name: read_document(path) for path in run.path.rglob("*.safetensors")}


@pytest.mark.parametrize("name", CHANGES)
def test_settings_that_decide_no_step_may_change(name, run):
    changed = run.config.with_(**{name: CHANGES[name]})
    assert list(differing(run.config, changed)) == [name]
    assert resumed(run.config, changed, run.path) == changed
    assert name in MAY_CHANGE


def test_the_memory_of_a_model_may_change(tmp_path):
    known = config(DRAWConfig(num_steps=2, hidden_dim=4, latent_dim=2))
    changed = known.with_(model=known.model.with_(memory="recompute"))
    assert resumed(known, changed, tmp_path) == changed


def test_all_other_settings_may_not_change_and_are_named(run):
    known = run.config
    for name, value in {"seed": 4, "batch_size": 7, "ema_decay": 0.5, "validate_every": 2}.items():
        with pytest.raises(InputError, match=f"--{name.replace('_', '-')} differs") as refused:
            resumed(known, known.with_(**{name: value}), run.path)
        assert f"--start-from {run.path}" in str(refused.value)
        assert str(refused.value).count(". ") == 0
    for part, changes in {
        "model": {"latent_dim": 9, "hidden_dims": (4,)},
        "optimizer": {"learning_rate": 0.5, "betas": (0.5, 0.5)},
        "data": {"name": "mnist-5k", "draw_seed": 1},
    }.items():
        changed = known.with_(**{part: getattr(known, part).with_(**changes)})
        with pytest.raises(InputError) as refused:
            resumed(known, changed, run.path)
        assert all(f"--{part}.{key.replace('_', '-')}" in str(refused.value) for key in changes)
    draw = known.with_(model=DRAWConfig())
    with pytest.raises(InputError, match=r"config: --model\.kind differs"):
        resumed(known, draw, run.path)
    several = known.with_(seed=1, batch_size=1, ema_decay=0, validate_every=9, start_from="other")
    with pytest.raises(InputError, match="and 1 more differ;"):
        resumed(known, several, run.path)


def test_settings_that_nobody_chose_stay_as_they_are_in_the_run(run):
    asked = run.config.with_(epochs=9, seed=4, data=run.config.data.with_(root="elsewhere"))
    assert resumed(run.config, asked, run.path, {"epochs"}) == run.config.with_(epochs=9)
    assert resumed(run.config, asked, run.path, {"data.root"}).data == asked.data
    with pytest.raises(InputError, match="--seed differs"):
        resumed(run.config, asked, run.path, {"epochs", "seed"})


def test_a_budget_counts_from_the_start_of_the_run(run, capsys):
    with pytest.raises(InputError, match=r"already trained for 2 epochs, more than --epochs 1;"):
        resumed(run.config, run.config.with_(epochs=1), run.path)
    with pytest.raises(InputError, match="minutes, more than --minutes 1e-09;"):
        resumed(run.config, run.config.with_(minutes=1e-9), run.path)
    resumed(run.config, run.config, run.path)
    assert not capsys.readouterr().err
    adopt(run)
    assert "has trained for its 2 epochs; a larger --epochs continues" in capsys.readouterr().err


def test_an_extended_run_is_the_one_that_had_the_budget_from_the_start(run, tmp_path):
    """Where the learning rate does not depend on the budget: to the bit."""
    before = run.metrics()
    extended = train(run.config.with_(epochs=4), run.path, resume=True)
    whole = train(config(optimizer=CONSTANT, epochs=4), tmp_path / "whole")
    expected, found = weights_of(whole), weights_of(extended)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert extended.metrics()[:2] == before
    assert [entry["epoch"] for entry in extended.metrics()] == [1, 2, 3, 4]
    assert Run.at(run.path).config == whole.config
    bounds = [entry["validation"]["elbo"] for entry in extended.metrics()]
    assert extended.validation_elbo() == max(bounds)


def test_an_extended_run_keeps_better_weights_of_before(tmp_path):
    """Its learning rate is so high that no later epoch is better."""
    wild = config(epochs=1, optimizer=OptimizerConfig(schedule="constant", learning_rate=3.0))
    run = train(wild, tmp_path / "run")
    best = run.validation_elbo()
    extended = train(wild.with_(epochs=3), run.path, resume=True)
    bounds = [entry["validation"]["elbo"] for entry in extended.metrics()]
    assert extended.validation_elbo() == max(best, *(each for each in bounds if each is not None))


def test_an_extension_survives_a_crash_right_after_it(run, capsys):
    """Also if config.json is lost: all checkpoints know the new budget."""
    asked = run.config.with_(epochs=4)
    stopped_after(1, asked, run.path, resume=True)
    states = documents(run)
    assert {"best.safetensors", "last.safetensors", "model.safetensors"} < set(states)
    found = [RunConfig.parse(each["config"]) for each in states.values() if "config" in each]
    assert len(found) >= 4
    assert all(each == asked for each in found)
    capsys.readouterr()
    assert Run.at(run.path).config == asked
    assert not capsys.readouterr().err
    (run.path / "config.json").write_text("{")
    assert Run.at(run.path).config == asked
    assert [entry["epoch"] for entry in train(asked, run.path, resume=True).metrics()][-1] == 4


def test_adopting_a_config_changes_neither_weights_nor_the_rest_of_documents(run):
    before, kept = documents(run), weights_of(run)
    files = {path: path.stat().st_mtime_ns for path in run.path.rglob("*.safetensors")}
    adopt(run)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    adopt(Run(run.path, run.config.with_(epochs=5)))
    for name, document in documents(run).items():
        if "config" in document:
            assert document["config"].pop("epochs") == 5
            assert before[name]["config"].pop("epochs") == 2
        assert document == before[name]
    assert all(torch.equal(kept[name], value) for name, value in weights_of(run).items())


def test_a_cosine_that_starts_again_is_announced(tmp_path, capsys):
    cosine = config(optimizer=OptimizerConfig(warmup_steps=1, learning_rate=0.01))
    run = train(cosine, tmp_path / "run")
    capsys.readouterr()
    extended = train(cosine.with_(epochs=4), run.path, resume=True)
    told = " ".join(capsys.readouterr().err.split())
    assert "continues at 50% of the new budget: the learning rate rises from 0 to 0.005" in told
    rates = [entry["learning_rate"] for entry in extended.metrics()]
    assert rates[1] < 0.001
    assert 0 < rates[2] < 0.005
    train(cosine.with_(epochs=4, device="auto"), run.path, resume=True)
    assert "learning rate" not in capsys.readouterr().err


def test_images_may_have_moved_if_they_are_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    levels = np.random.default_rng(0).integers(256, size=(40, 4, 3), dtype=np.uint8)
    np.save("grey.npy", levels)
    (tmp_path / "elsewhere").mkdir()
    known = config(data=DataConfig(name="grey.npy"), epochs=1, batch_size=10)
    run = train(known, tmp_path / "run")
    shutil.move("grey.npy", "elsewhere/moved.npy")
    moved = known.with_(data=DataConfig(name="elsewhere/moved.npy"), epochs=2)
    with pytest.raises(InputError, match=r"grey\.npy"):
        train(known, run.path, resume=True)
    assert train(moved, run.path, resume=True).metrics()[-1]["epoch"] == 2
    assert Run.at(run.path).config == moved
    np.save("elsewhere/moved.npy", levels[::-1] ^ 1)
    with pytest.raises(InputError, match="are not those that"):
        train(moved, run.path, resume=True)
    np.save("grey.npy", levels)
    (run.path / "training_images.safetensors").unlink()
    with pytest.raises(InputError, match=r"--data\.name differs"):
        train(known, run.path, resume=True)


def test_the_command_continues_with_flags(run, capsys):
    out = str(run.path)
    flags = ["--epochs", "3", "--evaluate-samples", "2"]
    assert main(["train", "vae", "--resume", "--out", out, *flags]) == 0
    assert Run.at(run.path).config == run.config.with_(epochs=3, evaluate_samples=2)
    assert Run.at(run.path).metrics()[-1]["epoch"] == 3
    capsys.readouterr()
    assert main(["train", "--resume", "--out", out, "--seed", "7"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "--seed differs; resuming may change --epochs, --minutes, --device," in told
    assert main(["train", "draw", "--resume", "--out", out]) == 2
    assert "is a vae; leave out draw" in capsys.readouterr().err
    assert Run.at(run.path).config.epochs == 3


def test_weights_of_a_first_epoch_that_did_not_end_are_explained(tmp_path, capsys):
    stopped_after(1, config(), tmp_path / "run")
    capsys.readouterr()
    for command in ("sample", "evaluate", "reconstruct", "report"):
        assert main([command, str(tmp_path / "run")]) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert "was stopped before its first validation" in told, command
        assert f"limner train --resume --out {tmp_path / 'run'}" in told


def test_an_evaluation_finds_out_first_that_its_folder_is_read_only(run, monkeypatch, capsys):
    def read_only(**options):
        raise OSError(30, "Read-only file system")

    def computed(*arguments, **options):
        raise AssertionError

    monkeypatch.setattr("limner.evaluation.likelihood.evaluate_model", computed)
    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    (run.path / "evaluation").mkdir()
    assert main(["evaluate", str(run.path)]) == 2
    assert "choose another place with --out" in capsys.readouterr().err


def test_an_evaluation_is_written_elsewhere(run, tmp_path):
    before = sorted(run.path.rglob("*"))
    out = tmp_path / "elsewhere"
    assert main(["evaluate", str(run.path), "--num-samples", "2", "--out", str(out)]) == 0
    assert (out / "results.json").is_file()
    assert (out / "evaluation" / "K2-seed0.json").is_file()
    assert sorted(run.path.rglob("*")) == before
