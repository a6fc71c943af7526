"""A run remembers its training images: evaluations count them, and a resume needs the same."""

import json

import numpy as np
import pytest

from limner.cli import main
from limner.training import Run

RANDOM = np.random.default_rng(0)
FLAGS = "--model.hidden-dims 4 --model.latent-dim 2 --epochs 1 --device cpu --compile never"


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train, validation, test = (
        RANDOM.integers(256, size=(count, 4, 3), dtype=np.uint8) for count in (20, 3, 10)
    )
    np.savez("own.npz", x_train=train, x_valid=validation, x_test=test)
    assert (
        main(f"train vae --data.name own.npz {FLAGS} --evaluate-samples 2 --out run".split()) == 0
    )
    return train, validation, test


def test_training_images_among_those_that_are_evaluated_are_counted(images, tmp_path, capsys):
    run = Run.at(tmp_path / "run")
    assert "note" not in (run.results() or {"note": ""})
    assert "training images" not in capsys.readouterr().err
    train, validation, test = images
    mixed = np.concatenate([test[:2], train[3:11]])
    np.savez("own.npz", x_train=train, x_valid=validation, x_test=mixed)
    assert main(["evaluate", "run", "--num-samples", "2"]) == 0
    note = "8 of 10 evaluated images are training images of this run"
    assert note in capsys.readouterr().err
    assert (run.results() or {})["note"].startswith(note)
    assert main(["evaluate", "run", "--num-samples", "2", "--num-images", "2"]) == 0
    assert "training images" not in capsys.readouterr().err
    assert main(["evaluate", "run", "--num-samples", "2", "--split", "train"]) == 0
    assert "training images" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "count"),
    [("reconstruct run", 10), ("figures run", 11), ("interpolate run --images 0 1", 12)],
)
def test_figures_of_training_images_say_so(command, count, images, capsys):
    train, validation, test = images
    mixed = np.concatenate([test[:2], train[5 : 5 + count]])
    np.savez("own.npz", x_train=train, x_valid=validation, x_test=mixed)
    assert main(f"{command} --out {'a.png' if 'interpolate' in command else 'a'}".split()) == 0
    assert f"{count} of {count + 2} evaluated images are training" in capsys.readouterr().err


def test_a_training_image_given_as_a_picture_is_counted(images, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(images[0][5]).save("seen.png")
    Image.fromarray(images[2][5]).save("new.png")
    assert main(["evaluate", "run", "seen.png", "new.png", "--num-samples", "2"]) == 0
    (path,) = (tmp_path / "run" / "evaluation").glob("pictures-*.json")
    assert json.loads(path.read_text())["note"].startswith("1 of 2 evaluated images are training")
    capsys.readouterr()


def test_a_resumed_run_needs_the_same_training_images_in_the_same_order(images, tmp_path, capsys):
    train, validation, test = images
    assert main(["train", "--resume", "--out", "run", "--evaluate-samples", "2"]) == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    new = np.concatenate([train[:19], test[:1]])
    counts = "1 of 20 are new, 1 of 20 are gone"
    for other, word in ((train[::-1], "their order is another one"), (new, counts)):
        np.savez("own.npz", x_train=other, x_valid=validation, x_test=test)
        assert main(["train", "--resume", "--out", "run", "--evaluate-samples", "2"]) == 2
        assert word in capsys.readouterr().err
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    (tmp_path / "run" / "training_images.safetensors").unlink()  # of an earlier version
    assert main(["train", "--resume", "--out", "run", "--evaluate-samples", "2"]) == 0
    capsys.readouterr()
