"""No model's training step reads from the device or copies to it, so a CUDA graph can repeat it.

The functions of the graph run under `NoHostReads`, on a CPU and on the meta device.
"""

import pytest
import torch
from torch import nn

from host_reads import HostRead, NoHostReads
from limner.config import ObjectiveConfig, RunConfig
from limner.models import DRAWConfig, LadderVAEConfig, VAEConfig, build, recurrent
from limner.training.optimizer import GuardedStep, build_optimizer
from limner.training.processes import Processes
from limner.training.stepper import Stepper

DRAW = DRAWConfig(num_steps=3, hidden_dim=6, latent_dim=3)
ATTENTION = DRAW.with_(attention="filterbank", read_size=2, write_size=3)
MODELS = {
    "vae": VAEConfig(hidden_dims=(8, 6), latent_dim=3),
    "ladder-vae": LadderVAEConfig(hidden_dims=(8, 6, 5), latent_dims=(4, 3, 2)),
    "draw": DRAW,
    "attention": ATTENTION,
    "learned prior": ATTENTION.with_(prior="learned"),
    "recomputed": ATTENTION.with_(num_steps=5, memory="recompute"),
    "gaussian": ATTENTION.with_(observation="gaussian"),
    "discretized logistic": DRAW.with_(observation="discretized_logistic"),
    "mixture": DRAW.with_(observation="discretized_logistic_mixture"),
}
OBJECTIVES = {
    "elbo": ObjectiveConfig(),
    "free bits": ObjectiveConfig(free_bits=0.1, num_samples=2),
    "iwae": ObjectiveConfig(kind="iwae", num_samples=3),
    "stl": ObjectiveConfig(gradient="stl"),
    "dreg": ObjectiveConfig(kind="iwae", num_samples=3, gradient="dreg"),
}
devices = pytest.mark.parametrize("device", ["cpu", "meta"])


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """What is done on a CPU alone is left out, and the device draws its own noise."""
    monkeypatch.setattr(recurrent, "_gathering_pays", lambda x: False)
    monkeypatch.setattr(
        GuardedStep, "_norm", lambda _, gradients: nn.utils.get_total_norm(gradients)
    )
    monkeypatch.setattr("limner.device._TRIED", ("cpu", "cuda", "meta"))
    drawn = torch.Tensor.normal_
    monkeypatch.setattr("limner.models.draws.fill_normal", lambda tensor, _: drawn(tensor))


def stepper_of(model, device="cpu", objective="elbo"):
    assert model.saved_floats  # measured on a CPU before training, and kept
    model = model.to(device).train()
    aim = OBJECTIVES[objective]
    config = RunConfig(model=model.config, objective=aim, epochs=1, device="cpu", seed=0)
    if device == "cpu":
        optimizer = build_optimizer(model, config.optimizer)
    else:  # fused Adam takes no tensors without values
        optimizer = torch.optim.SGD(model.parameters())
    return Stepper(config, model, optimizer, Processes(torch.device(device)))


def take_step(stepper):
    """A step of 4 images by the functions of the graph; on meta, the part before the update."""
    stepper.use_graphs(4)
    with NoHostReads():
        stepper.graphs.gradient()
        if stepper.device.type == "cpu":
            stepper.graphs.update()
    assert any(p.grad is not None for p in stepper.model.parameters())


@devices
@pytest.mark.parametrize("name", MODELS)
def test_a_step_reads_nothing(name, device):
    take_step(stepper_of(build(MODELS[name], (2, 7, 4)), device))


@devices
def test_a_step_on_square_images_reads_nothing(device):
    take_step(stepper_of(build(MODELS["attention"], (1, 6, 6)), device))


@devices
@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "elbo"])
@pytest.mark.parametrize("name", ["vae", "ladder-vae", "attention"])
def test_no_objective_reads(name, objective, device):
    take_step(stepper_of(build(MODELS[name], (1, 6, 4)), device, objective))


class Reads(nn.Module):
    """A layer that does what a graph cannot repeat."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        self.how(x)
        return x


READINGS = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool((x > 0).any()),
    "int": lambda x: int(x.sum()),
    "mask": lambda x: x[x > 0],
    "nonzero": torch.nonzero,
    "masked_select": lambda x: x.masked_select(x > 0),
    "tensor": lambda x: x.new_tensor([1.0, 2.0]),
}
ON_META = {
    **{name: how for name, how in READINGS.items() if name != "tensor"},
    "cpu": lambda x: x.cpu(),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.detach().numpy(),
    "from the host": lambda x: x.copy_(torch.zeros(x.shape, device="cpu")),
}


@pytest.mark.parametrize("how", READINGS)
def test_a_model_that_reads_is_noticed_on_a_cpu(how):
    model = build(MODELS["vae"], (1, 6, 6))
    model.encoder.append(Reads(READINGS[how]))
    with pytest.raises(HostRead, match="waits for the device"):
        take_step(stepper_of(model))


@pytest.mark.parametrize("how", ON_META)
def test_a_model_that_reads_is_noticed_on_meta(how):
    model = build(MODELS["vae"], (1, 6, 6))
    model.encoder.append(Reads(ON_META[how]))
    with pytest.raises((HostRead, RuntimeError, TypeError)):
        take_step(stepper_of(model, "meta"))
