"""Weight gradients added up in place are those that autograd forms."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from limner.layers import gathered as gathered_module
from limner.layers import products
from limner.layers.compiling import compiled
from limner.layers.gathered import Gathered
from limner.models import DRAWConfig, Inference, build
from limner.models import draw as draw_module
from limner.models.base import LatentVariableModel

SHAPE = (1, 6, 5)
OBJECTIVES = {
    "elbo": lambda inference: (inference.log_likelihood - inference.kl.sum(1)).mean(),
    "kl alone": lambda inference: inference.kl.sum(),
    "likelihood alone": lambda inference: inference.log_likelihood.sum(),
    "first step's kl": lambda inference: inference.kl[:, 0].sum(),
}


def tiny(**settings: object) -> LatentVariableModel:
    torch.manual_seed(0)
    small = {"num_steps": 5, "hidden_dim": 7, "latent_dim": 3} | settings
    return build(DRAWConfig.parse(small), SHAPE).double()


def gradients(model: LatentVariableModel, objective: str, times: int = 1) -> list[torch.Tensor]:
    x = (torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1)) < 0.4).to(
        next(model.parameters())
    )
    inference: Inference = model.infer(x, torch.Generator().manual_seed(2))
    model.zero_grad()
    for n in range(times):
        OBJECTIVES[objective](inference).backward(retain_graph=n + 1 < times)
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("attention", ["none", "filterbank"])
@pytest.mark.parametrize("rows", [1, 8, 512])
def test_gradients_are_those_of_autograd(
    rows: int, attention: str, memory: str, objective: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gathered_module, "ROWS", rows)
    model = tiny(attention=attention, memory=memory, prior="learned")
    gathered = gradients(model, objective)
    monkeypatch.setattr(draw_module, "_gathering_pays", lambda x: False)
    for ours, theirs in zip(gathered, gradients(model, objective), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert any(gradient.abs().max() > 0 for gradient in gathered)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
@pytest.mark.parametrize("attention", ["none", "filterbank"])
def test_compiled_gradients_are_those_of_eager_mode(
    attention: str, monkeypatch: pytest.MonkeyPatch
):
    """In float32, whose products are oneDNN's, with sums added to in compiled code."""
    monkeypatch.setattr(gathered_module, "ROWS", 8)
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", True)
    torch._dynamo.reset()
    calls = []

    def counting(function: Callable[..., Any], device: str) -> Callable[..., Any]:
        calls.append(function)
        return compiled(function, device)

    monkeypatch.setattr(gathered_module, "compiled", counting)
    model = tiny(attention=attention, num_steps=7).float()
    eager = gradients(model, "elbo")
    model.compile_parts()
    torch.testing.assert_close(gradients(model, "elbo"), eager, rtol=1e-4, atol=1e-5)
    assert len(calls) == 2  # steps 5 and 4, 3 and 2


def test_the_graph_is_freed_with_its_last_tensor(monkeypatch: pytest.MonkeyPatch):
    kept: list[weakref.ref[torch.Tensor]] = []

    def keep(self: Gathered, *inputs: torch.Tensor) -> None:
        node = self.node
        plain(self, *inputs)
        kept.extend(map(weakref.ref, node.inputs))

    plain = Gathered.keep
    monkeypatch.setattr(Gathered, "keep", keep)
    gc.disable()
    try:
        inference = tiny().infer((torch.rand(4, *SHAPE) < 0.4).double())
        assert all(reference() is not None for reference in kept)
        del inference
        assert not any(reference() is not None for reference in kept)
    finally:
        gc.enable()


def test_a_second_backward_pass_adds_the_same_again():
    model = tiny()
    once = [gradient.clone() for gradient in gradients(model, "elbo")]
    for single, double in zip(once, gradients(model, "elbo", times=2), strict=True):
        torch.testing.assert_close(double, 2 * single, rtol=1e-12, atol=1e-12)
