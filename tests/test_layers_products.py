"""Products with weights equal plain matrix products, with either library."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from limner.cpu import products
from limner.layers.compiling import compiled
from limner.layers.linear import Linear

SHAPES = [(4, 3, 5), (1, 3, 5), (4, 1, 5), (4, 3, 1), (33, 17, 65)]


@pytest.fixture(params=[False, True], ids=["torch", "onednn"])
def library(request, monkeypatch):
    monkeypatch.setattr(products.Library, "is_onednn", request.param)


@pytest.fixture
def onednn(monkeypatch):
    monkeypatch.setattr(products.Library, "is_onednn", True)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("rows", "columns", "inner"), SHAPES)
def test_products_and_their_gradients(rows, columns, inner, generator):
    a = torch.randn(rows, inner, generator=generator, requires_grad=True)
    b = torch.randn(columns, inner, generator=generator, requires_grad=True)
    of_product = torch.randn(rows, columns, generator=generator)
    ours = products.differentiable_product(a, b)
    assert_close(ours, a @ b.T)
    assert_close(products.product(a, b), a @ b.T)
    first = [torch.autograd.grad(y, (a, b), of_product, create_graph=True) for y in (ours, a @ b.T)]
    assert_close(*first)
    second = [torch.autograd.grad(of_a.square().sum() + of_b.sum(), (a, b)) for of_a, of_b in first]
    assert_close(*second, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("out", "width", "rows"), SHAPES)
def test_sums_of_outer_products(out, width, rows, generator):
    ds, xs = ([torch.randn(rows, n, generator=generator) for _ in range(5)] for n in (out, width))
    total = products.add_outer(None, ds[:1], xs[:1])
    total = products.add_outer(total, ds[1:], xs[1:])
    expected = torch.stack([d.T @ x for d, x in zip(ds, xs, strict=True)]).sum(0)
    assert_close(total, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("library")
def test_matrices_however_they_lie(generator):
    whole = torch.randn(40, 40, generator=generator)
    for a in (whole[:7, :9], whole.T[:7, :9], whole[:1, :9].expand(7, 9), whole[::5, ::4][:7, :9]):
        for b in (whole[20:25, 20:29], whole.T[20:25, 20:29], whole[:5, 3:4].expand(5, 9)):
            assert_close(products.product(a, b), a @ b.T)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked", "onednn")
@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
def test_compiled_products_however_matrices_lie(generator):
    whole = torch.randn(40, 40, generator=generator)
    a = [whole[:7, :9], whole.T[:7, :9], whole[:1, :9].expand(7, 9), whole[::5, ::4][:7, :9]]
    b = [whole[20:25, 20:29], whole.T[20:25, 20:29], whole[:5, 3:4].expand(5, 9)]
    b += [whole[20:25].clone()[:, :9], whole[20:29, :5].clone().T]

    def every() -> list[torch.Tensor]:
        return [products.product(left, right) for left in a for right in b]

    assert_close(compiled(every, "cpu")(), [left @ right.T for left in a for right in b])


@pytest.mark.usefixtures("onednn")
def test_only_float32_matrices_on_a_cpu_are_onednns(monkeypatch):
    x = torch.zeros(2, 3)
    assert products.by_onednn(x, x)
    assert not products.by_onednn(x.double(), x.double())
    assert not products.by_onednn(x.to("meta"), x)
    assert not products.by_onednn(x[None], x)
    assert not products.by_onednn(x[:0], x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not products.by_onednn(x, x)
    monkeypatch.setattr(products.Library, "is_onednn", False)
    assert not products.by_onednn(x, x)


@pytest.fixture
def layers():
    torch.manual_seed(0)
    ours, torchs = Linear(3, 4), nn.Linear(3, 4)
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


INPUTS = {
    "rows": lambda x: x,
    "one row": lambda x: x[:1],
    "no rows": lambda x: x[:0],
    "a vector": lambda x: x[0],
    "a sequence": lambda x: x.unflatten(0, (2, 3)),
    "a copy with holes": lambda x: torch.cat([x, x], 1)[:, ::2],
    "transposed": lambda x: x[:3].T,
}


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", INPUTS)
def test_a_layer_is_torchs_for_any_input(kind, dtype, layers, generator):
    ours, torchs = (layer.to(dtype) for layer in layers)
    x = INPUTS[kind](torch.randn(6, 3, generator=generator, dtype=dtype)).requires_grad_()
    found = []
    for layer in (ours, torchs):
        y = layer(x)
        gradients = torch.autograd.grad(y.square().sum(), (x, *layer.parameters()))
        found.append((y, gradients))
    assert_close(*found)


@pytest.mark.usefixtures("library")
def test_a_layer_is_torchs_under_transforms(layers, generator):
    ours, torchs = layers
    x = torch.randn(5, 3, generator=generator)
    assert_close(torch.func.jacrev(ours)(x), torch.func.jacrev(torchs)(x))
    assert_close(torch.func.vmap(ours)(x[:, None]), torch.func.vmap(torchs)(x[:, None]))


@pytest.mark.usefixtures("onednn")
def test_a_torch_without_the_private_operator_has_the_same_results(monkeypatch, generator):
    """Its names are private: they may be missing in another version."""
    a, b = torch.randn(4, 3, generator=generator), torch.randn(5, 3, generator=generator)
    monkeypatch.setattr(torch.ops, "mkldnn", None)
    assert products.onednn_operator() is None
    assert not products.onednn_is_faster()
    assert_close(products.product(a, b), a @ b.T)
