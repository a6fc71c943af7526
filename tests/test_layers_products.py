"""Products with weights are those of a matrix product, whichever library takes them."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from limner.layers import products
from limner.layers.compiling import compiled

SHAPES = [(4, 3, 5), (1, 3, 5), (4, 1, 5), (4, 3, 1), (33, 17, 65)]


@pytest.fixture(params=[False, True], ids=["torch", "onednn"])
def library(request, monkeypatch):
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", request.param)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("rows", "columns", "inner"), SHAPES)
def test_products_and_their_gradients(rows, columns, inner, generator):
    a = torch.randn(rows, inner, generator=generator, requires_grad=True)
    b = torch.randn(columns, inner, generator=generator, requires_grad=True)
    of_product = torch.randn(rows, columns, generator=generator)
    ours = products.product(a, b)
    assert_close(ours, a @ b.T)
    assert_close(
        torch.autograd.grad(ours, (a, b), of_product),
        torch.autograd.grad(a @ b.T, (a, b), of_product),
    )


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
@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
def test_compiled_products_however_matrices_lie(generator, monkeypatch):
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", True)
    whole = torch.randn(40, 40, generator=generator)
    a = [whole[:7, :9], whole.T[:7, :9], whole[:1, :9].expand(7, 9), whole[::5, ::4][:7, :9]]
    b = [whole[20:25, 20:29], whole.T[20:25, 20:29], whole[:5, 3:4].expand(5, 9)]
    b += [whole[20:25].clone()[:, :9], whole[20:29, :5].clone().T]

    def every() -> list[torch.Tensor]:
        return [products.product(left, right) for left in a for right in b]

    assert_close(compiled(every, "cpu")(), [left @ right.T for left in a for right in b])


def test_only_float32_on_a_cpu_is_onednns(monkeypatch):
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", True)
    x = torch.zeros(2, 3)
    assert products.by_onednn(x)
    assert not products.by_onednn(x.double())
    assert not products.by_onednn(x.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not products.by_onednn(x)
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", False)
    assert not products.by_onednn(x)


@pytest.mark.usefixtures("library")
def test_a_layer_is_torchs(generator):
    torch.manual_seed(0)
    ours = products.Linear(3, 4)
    torchs = nn.Linear(3, 4)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 3, generator=generator)
    assert_close(ours(x), torchs(x))
    assert_close(torch.func.jacrev(ours)(x), torch.func.jacrev(torchs)(x))
    assert_close(torch.func.vmap(ours)(x[:, None]), torch.func.vmap(torchs)(x[:, None]))
