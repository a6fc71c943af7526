"""Weight gradients that are summed over steps in place equal autograd's."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from limner.cpu import products
from limner.errors import InputError
from limner.layers import gathered as gathered_module
from limner.layers.copies import with_tensors
from limner.layers.gathered import Gathered
from limner.layers.linear import Linear
from limner.models import DRAWConfig, build
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


def gradients(
    model: LatentVariableModel, objective: str, times: int = 1, trace: bool = False
) -> list[torch.Tensor]:
    x = (torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1)) < 0.4).to(
        next(model.parameters())
    )
    inference = model.infer(x, torch.Generator().manual_seed(2), trace)
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
    """A traced inference sums nothing in place."""
    monkeypatch.setattr(gathered_module, "ROWS", rows)
    model = tiny(attention=attention, memory=memory, prior="learned")
    gathered = gradients(model, objective)
    for ours, theirs in zip(gathered, gradients(model, objective, trace=True), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert any(gradient.abs().max() > 0 for gradient in gathered)


class Twice(nn.Module):
    """Calls one layer twice in a step, one with a sequence, one not at all; a bias is missing."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Linear(3, 3, bias=False), Linear(3, 3)
        self.unused, self.frozen = Linear(3, 3), Linear(3, 3)
        self.frozen.requires_grad_(False)

    def forward(self, h):
        h = self.first(self.first(h).tanh()).tanh()
        sequence = torch.stack([h, 2 * h], dim=1)
        return self.frozen(self.second(sequence).sum(1)).tanh()


@pytest.mark.parametrize("steps", [1, 5])
def test_layers_called_in_any_way_keep_their_gradients(
    steps: int, monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
):
    monkeypatch.setattr(gathered_module, "ROWS", 8)
    torch.manual_seed(0)
    cell, h = Twice().double(), torch.randn(4, 3, generator=generator, dtype=torch.float64)
    found = []
    for gather in (True, False):
        cell.zero_grad()
        copy, state = with_tensors(cell, {}), h
        gathered = Gathered(copy, len(h), steps) if gather else None
        for _ in range(steps):
            if gathered is not None:
                gathered.begin()
            state = (copy if gather else cell)(state)
            if gathered is not None:
                gathered.end()
        state.square().sum().backward()
        grads = [p.grad for p in cell.parameters()]
        found.append([torch.zeros(()) if g is None else g for g in grads])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_part_of_a_backward_pass_leaves_nothing_for_the_next(memory: str):
    """`autograd.grad` for some tensors, before a full pass through the same graph."""
    model = tiny(memory=memory)
    expected = [gradient.clone() for gradient in gradients(model, "elbo")]
    x = (torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1)) < 0.4).double()
    x.requires_grad_()
    bound = OBJECTIVES["elbo"](model.infer(x, torch.Generator().manual_seed(2)))
    torch.autograd.grad(bound, [x, model.c_0], retain_graph=True)
    found = torch.autograd.grad(bound, list(model.parameters()))
    torch.testing.assert_close(list(found), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
@pytest.mark.parametrize(
    ("attention", "library"),
    [("none", False), ("filterbank", True)],
    ids=["none-torch", "filterbank-onednn"],
)
def test_compiled_gradients_are_those_of_eager_mode(
    attention: str, library: bool, monkeypatch: pytest.MonkeyPatch
):
    """In float32; the step and the sums of gradients are one compiled region each."""
    monkeypatch.setattr(gathered_module, "ROWS", 8)
    monkeypatch.setattr(products.Library, "is_onednn", library)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = tiny(attention=attention, num_steps=7, prior="learned").float()
    eager = gradients(model, "elbo")
    model.compile_parts()
    torch.testing.assert_close(gradients(model, "elbo"), eager, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
def test_second_derivatives_of_a_compiled_model_are_refused():
    torch._dynamo.reset()
    model = tiny(num_steps=3).float()
    model.compile_parts()
    kl = model.infer(torch.zeros(4, *SHAPE)).kl.sum()
    with pytest.raises(InputError, match="first derivatives only"):
        torch.autograd.grad(kl, model.c_0, create_graph=True)
    assert torch.autograd.grad(kl, model.decoder.weight)[0].isfinite().all()


class Held:
    """A tensor that the graph keeps, by way of a hook."""

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor.detach()


def test_the_graph_is_freed_with_its_last_tensor():
    """No cycle through Python keeps what the backward pass needs."""
    kept: list[weakref.ref[Held]] = []

    def hold(tensor: torch.Tensor) -> Held:
        held = Held(tensor)
        kept.append(weakref.ref(held))
        return held

    model, x = tiny(), (torch.rand(4, *SHAPE) < 0.4).double()
    model.infer(x)
    gc.disable()
    try:
        with torch.autograd.graph.saved_tensors_hooks(hold, lambda held: held.tensor):
            inference = model.infer(x)
        assert sum(reference() is not None for reference in kept) > 20
        del inference
        assert all(reference() is None for reference in kept)
    finally:
        gc.enable()


def test_a_second_backward_pass_adds_the_same_again():
    model = tiny()
    once = [gradient.clone() for gradient in gradients(model, "elbo")]
    for single, double in zip(once, gradients(model, "elbo", times=2), strict=True):
        torch.testing.assert_close(double, 2 * single, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("change", ["tied", "pruned", "normalised", "by hook"])
def test_layers_that_were_changed_from_outside_keep_their_gradients(change: str, memory: str):
    """Weights that are shared, or that a property or a hook computes, also after an evaluation."""
    model = tiny(memory=memory, prior="learned")
    if change == "tied":
        model.prior_head.linear.weight = model.posterior_head.linear.weight
    elif change == "pruned":
        prune.random_unstructured(model.heads, "weight", amount=0.5)
    elif change == "normalised":
        parametrizations.weight_norm(model.heads)
    else:
        with pytest.warns(FutureWarning):
            nn.utils.weight_norm(model.heads)
    with torch.no_grad():
        model.infer(torch.zeros(2, *SHAPE).double())
    ours = [gradient.clone() for gradient in gradients(model, "elbo")]
    torch.testing.assert_close(ours, gradients(model, "elbo", trace=True), rtol=1e-11, atol=1e-11)
    assert all(gradient.abs().max() > 0 for gradient in ours)


def test_an_empty_batch_has_gradients_of_zero():
    model = tiny()
    bound = model.infer(torch.zeros(0, *SHAPE).double())
    bound.kl.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
