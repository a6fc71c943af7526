"""The functions that a CUDA graph repeats, run without one, take the same steps as the loop."""

import pytest
import torch

from limner import InputError
from limner.config import ObjectiveConfig, RunConfig
from limner.data import DataConfig
from limner.data import load as load_data
from limner.models import DRAWConfig, LadderVAEConfig, VAEConfig
from limner.training import train
from limner.training.graphs import Replayed
from limner.training.processes import Processes
from limner.training.start import initial_model
from limner.training.trainer import Trainer

CPU = torch.device("cpu")
MODELS = {
    "vae": VAEConfig(hidden_dims=(16,), latent_dim=4),
    "ladder-vae": LadderVAEConfig(hidden_dims=(16, 8), latent_dims=(4, 2)),
    "draw": DRAWConfig(num_steps=3, hidden_dim=8, latent_dim=3),
    "recomputed": DRAWConfig(
        num_steps=4, hidden_dim=8, latent_dim=3, attention="filterbank", memory="recompute"
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_replays_take_the_steps_of_the_loop(name, tmp_path):
    config = RunConfig(
        model=MODELS[name],
        data=DataConfig(name="digits"),
        objective=ObjectiveConfig(kl_warmup_epochs=2, free_bits=0.1),
        epochs=2,
        batch_size=100,
        compile="never",
        device="cpu",
    )
    dataset, trainers = load_data(config.data), []
    for _ in range(2):
        model = initial_model(config, dataset)
        trainers.append(Trainer(config, dataset, Processes(CPU), model))
    ordinary, replayed = trainers
    replayed.use_graphs()
    for trainer in trainers:
        trainer.begin()
        for _ in range(20):
            counters = trainer.counters
            trainer.take_step(trainer.batches.batch(counters.epoch, counters.index))
    expected = ordinary.model.state_dict()
    for key, value in replayed.model.state_dict().items():
        assert torch.equal(value, expected[key]), key
    assert torch.equal(replayed.stepper.totals.read(), ordinary.stepper.totals.read())
    assert replayed.counters.step == ordinary.counters.step == 20


def test_a_function_without_a_gpu_is_simply_called():
    calls = []
    replayed = Replayed(lambda: calls.append(len(calls)), CPU)
    for _ in range(5):
        replayed()
    assert calls == [0, 1, 2, 3, 4]


def test_a_cuda_graph_without_a_gpu_is_refused(tmp_path):
    config = RunConfig(
        model=MODELS["vae"],
        data=DataConfig(name="digits"),
        epochs=1,
        compile="cuda-graph",
        device="cpu",
    )
    with pytest.raises(InputError, match="needs a GPU and the device is cpu; pass --compile auto"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
