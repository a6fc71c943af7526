"""What a training chooses by its images if no flag says otherwise."""

import numpy as np
import pytest
import torch

from limner import DRAWConfig, InputError, VAEConfig
from limner.config import RunConfig
from limner.data import DataConfig, Dataset, Images
from limner.training.defaults import adapted
from limner.training.runs import Run


def dataset(count=300, channels=1, values=None, name="photos", binarization="none"):
    random = np.random.default_rng(0)
    pixels = random.choice(values or range(256), size=(count, channels, 4, 3)).astype(np.uint8)
    images = Images(torch.from_numpy(pixels))
    return Dataset(name, binarization, 0, (channels, 4, 3), images, images, images)


def config(**changes):
    values = {"model": VAEConfig(), "data": DataConfig(name="photos"), "epochs": 20}
    return RunConfig(**values | changes)


@pytest.mark.parametrize(
    ("images", "observation"),
    [
        (dataset(channels=3), "discretized_logistic"),
        (dataset(), "discretized_logistic"),
        (dataset(values=[0, 255]), "bernoulli"),
        (dataset(binarization="dynamic"), "bernoulli"),
        (dataset(channels=3, values=[0, 255]), "bernoulli"),
    ],
)
def test_the_observation_follows_the_pixels_and_a_sentence_says_so(images, observation, capsys):
    one = images.name + str(images.image_shape) + observation + images.binarization
    images = Dataset(one, *list(vars(images).values())[1:7])  # sentences are printed once
    chosen = adapted(config(), images, {"epochs"})
    assert chosen.model.observation == observation
    assert chosen.data.binarization == images.binarization
    assert f"the observation is {observation} (--model.observation)" in capsys.readouterr().err
    assert chosen.epochs == 20


def test_an_observation_that_is_asked_for_stays_and_is_refused_if_it_is_no_density():
    gaussian = config(model=VAEConfig(observation="gaussian"))
    assert adapted(gaussian, dataset(), {"model.observation"}).model == gaussian.model
    for channels, remedy in ((1, "--data.binarization dynamic"), (3, "--model.observation discr")):
        with pytest.raises(InputError, match=f"pass {remedy}"):
            adapted(config(), dataset(channels=channels), {"model.observation"})


def test_datasets_by_name_keep_their_own_binarization(capsys):
    images = dataset(name="mnist-5k", binarization="dynamic")
    chosen = adapted(config(data=DataConfig()), images, {"epochs", "validate_every"})
    assert chosen.model.observation == "bernoulli"
    assert chosen.data == DataConfig()
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "batch", "epochs"),
    [(1, 128, 2000), (240, 128, 2000), (4000, 128, 65), (20, 3, 334), (50_000, 50, 20)],
)
def test_the_default_budget_makes_enough_steps(count, batch, epochs):
    chosen = adapted(config(batch_size=batch), dataset(count), set())
    assert chosen.epochs == epochs
    steps = count // min(count, batch)
    assert steps * chosen.validate_every >= 32
    assert chosen.optimizer.warmup_steps == 200
    assert adapted(config(batch_size=batch), dataset(count), {"epochs"}).epochs == 20


def test_short_budgets_warm_up_for_a_quarter_and_are_validated_all_the_same():
    chosen = adapted(config(epochs=40), dataset(100), {"epochs"})
    assert (chosen.validate_every, chosen.optimizer.warmup_steps) == (2, 10)
    kept = adapted(config(epochs=40), dataset(100), {"validate_every", "optimizer.warmup_steps"})
    assert (kept.validate_every, kept.optimizer.warmup_steps) == (1, 200)


def test_a_command_stores_what_it_chose_and_trains_again_from_it(tmp_path, monkeypatch, capsys):
    from limner.cli import main

    monkeypatch.chdir(tmp_path)
    levels = np.random.default_rng(0).integers(256, size=(40, 4, 3, 3), dtype=np.uint8)
    np.save("photos.npy", levels)
    flags = "--data.name photos.npy --model.hidden-dims 4 --model.latent-dim 2 --device cpu"
    flags += " --compile never --evaluate-samples 2"
    assert main(f"train vae {flags} --epochs 2 --out one".split()) == 0
    stored = Run.at(tmp_path / "one").config
    assert stored.model.observation == "discretized_logistic"
    assert stored.data.binarization == "none"
    assert main(["train", "--config", "one/config.json", "--out", "two"]) == 0
    assert Run.at(tmp_path / "two").config == stored
    assert main(["train", "--resume", "--out", "two"]) == 0
    assert Run.at(tmp_path / "two").config == stored
    assert main(f"train vae {flags} --model.observation bernoulli --out three".split()) == 2
    assert not (tmp_path / "three").exists()
    capsys.readouterr()


def test_a_python_config_still_draws_grey_images(tmp_path):
    from limner.training import train

    levels = np.random.default_rng(0).integers(256, size=(40, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "grey.npy", levels)
    data = DataConfig(name=str(tmp_path / "grey.npy"))
    model = DRAWConfig(num_steps=2, hidden_dim=4, latent_dim=2)
    run = train(RunConfig(model=model, data=data, epochs=1, compile="never"), tmp_path / "run")
    assert run.dataset().binarization == "dynamic"
    assert run.config.data == data
