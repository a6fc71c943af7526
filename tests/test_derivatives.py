"""Derivatives of any order and torch's transforms, for every model and every own layer."""

import pytest
import torch
from torch.autograd import gradgradcheck
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap
from torch.testing import assert_close

import limner.transforms
from limner import elbo
from limner.layers import attention
from test_models_all import CONFIGS, images, make, seeded

SHAPE = (1, 3, 2)
models = pytest.mark.parametrize("kind", CONFIGS)


def bound_of(model, x, names):
    """The mean ELBO as a function of parameters, with fixed noise."""

    def bound(*values):
        given = dict(zip(names, values, strict=True))
        return elbo(functional_call(model, given, (x, seeded()))).mean()

    return bound


def parts(kind, n=2):
    model, x = make(kind, shape=SHAPE), images(n, SHAPE)
    names, parameters = zip(*model.named_parameters(), strict=True)
    return model, x, bound_of(model, x, names), parameters


@pytest.fixture(params=[(2, 4, 5), (1, 5, 5)], ids=["oblong", "square"])
def image(request, generator):
    return torch.randn(2, *request.param, generator=generator, dtype=torch.float64)


def test_second_derivatives_of_attention(image, generator):
    shape, size = image.shape[-2:], 3
    params = torch.randn(2, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    patch = torch.randn(2, image.shape[1], size, size, generator=generator, dtype=torch.float64)

    def filters(params):
        return attention.filterbank(attention.window(params, size, shape), size, shape)

    assert gradgradcheck(filters, params)
    F_y, F_x = (F.detach().requires_grad_() for F in filters(params))
    gamma = torch.rand(2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(attention.read, (image.requires_grad_(), F_y, F_x, gamma))
    assert gradgradcheck(attention.write, (patch.requires_grad_(), F_y, F_x, gamma))


RECOMPUTED = ("draw", "draw-learned-prior")


@pytest.mark.parametrize(
    ("kind", "memory"),
    [("vae", None), ("ladder", None), *((kind, "store") for kind in RECOMPUTED)]
    + [pytest.param(kind, "recompute", marks=pytest.mark.slow) for kind in RECOMPUTED],
)
def test_second_derivatives_of_a_bound(kind, memory):
    """By parameters, through draws, attention and recurrence, and by pixels."""
    model, x, bound, parameters = parts(kind)
    if memory is not None:
        model.memory = memory
    assert gradgradcheck(bound, parameters, fast_mode=True)
    x = x.requires_grad_()
    assert gradgradcheck(lambda x: elbo(model(x, seeded())), x, fast_mode=True)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kind", ["draw", "draw-learned-prior", "conv-draw"])
def test_steps_stored_recomputed_or_traced_have_the_same_derivatives(kind, steps):
    """First and second ones, the first also with a graph of its own."""
    model, x, found = make(kind, shape=SHAPE), images(2, SHAPE), []
    if kind == "draw-learned-prior":  # a parameter with two names
        model.prior_head.linear.bias = model.posterior_head.linear.bias
    model.num_steps, parameters = steps, list(model.parameters())
    for memory, trace in (("store", True), ("store", False), ("recompute", False)):
        model.memory = memory
        bound = elbo(model.infer(x, seeded(), trace)).mean()
        plain = torch.autograd.grad(bound, parameters, retain_graph=True)
        first = torch.autograd.grad(bound, parameters, create_graph=True)
        assert_close(first, plain)
        size = sum(g.square().sum() for g in first)
        second = torch.autograd.grad(size, parameters, allow_unused=True)
        found.append((bound, first, second))
    assert_close(found[1], found[0])
    assert_close(found[2], found[0])


def test_pixels_and_latents_that_are_given_have_gradients_also_if_steps_are_recomputed():
    model, x, found = make("draw", shape=SHAPE), images(2, SHAPE), []
    trace = model.infer(x, seeded(), trace=True)
    latents = [latent.z.detach().requires_grad_() for latent in trace.latents]
    for memory in ("store", "recompute"):
        model.memory = memory
        bound = elbo(model.infer(x, latents=latents)).mean()
        found.append(torch.autograd.grad(bound, latents))
    assert_close(found[1], found[0])


@models
def test_curvature_is_that_of_finite_differences(kind):
    """v'Hv of the parameters: autograd, twice, against the slope of the gradient along v."""
    _, _, bound, parameters = parts(kind)
    torch.manual_seed(3)
    v = [torch.randn_like(parameter) for parameter in parameters]

    def slope(share, create_graph=False):
        pairs = zip(parameters, v, strict=True)
        moved = [(p + share * d).detach().requires_grad_() for p, d in pairs]
        first = torch.autograd.grad(bound(*moved), moved, create_graph=create_graph)
        return sum((g * d).sum() for g, d in zip(first, v, strict=True)), moved

    first, moved = slope(0.0, create_graph=True)
    second = torch.autograd.grad(first, moved)
    found = sum((g * d).sum() for g, d in zip(second, v, strict=True))
    step = 1e-5
    expected = (slope(step)[0] - slope(-step)[0]) / (2 * step)
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_penalty_on_the_gradient_of_pixels_trains_like_any_objective():
    """The pixels' gradient alone is asked for first, so that no weight gradient is formed then."""
    model, x, _, _ = parts("draw-learned-prior")
    x.requires_grad_()

    def penalty(model):
        (slope,) = torch.autograd.grad(elbo(model(x, seeded())).sum(), x, create_graph=True)
        return slope.square().sum()

    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(penalty(model), parameters)
    weight, index = names.index("encoder.weight"), (0, 1)
    step = 1e-6
    slopes = []
    for sign in (1, -1):
        with torch.no_grad():
            parameters[weight][index] += sign * step
        slopes.append(penalty(model).item())
        with torch.no_grad():
            parameters[weight][index] -= sign * step
    expected = (slopes[0] - slopes[1]) / (2 * step)
    assert_close(found[weight][index].item(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:`torch.jit")  # of torch's own rules for jvp
@models
def test_transforms_of_torch_func_are_those_of_autograd(kind):
    """grad, jvp, a Hessian of c_0 or of the bias, and gradients per image by vmap."""
    model, x, bound, parameters = parts(kind, n=3)
    expected = torch.autograd.grad(bound(*parameters), parameters)
    every = tuple(range(len(parameters)))
    values = tuple(p.detach() for p in parameters)
    assert_close(grad(bound, argnums=every)(*values), expected)

    tangents = tuple(torch.ones_like(v) for v in values)
    _, along = jvp(bound, values, tangents)
    assert_close(along, sum(g.sum() for g in expected))

    name = next(name for name, p in model.named_parameters() if p is model._output_bias)

    def of_start(start, x):
        return elbo(functional_call(model, {name: start}, (x, None), {"latents": "mean"})).sum()

    start = model._output_bias.detach()
    curvature = hessian(of_start)(start, x)
    assert_close(curvature, jacrev(jacrev(of_start))(start, x))
    ordinary = torch.autograd.functional.hessian(lambda start: of_start(start, x), start)
    assert_close(curvature, ordinary)

    per_image = vmap(grad(of_start), in_dims=(None, 0))(start, x[:, None])
    one_by_one = [grad(of_start)(start, image[None]) for image in x]
    assert_close(per_image, torch.stack(one_by_one))


def test_a_torch_that_hides_its_transforms_raises_its_own_error(monkeypatch):
    """The name that says whether one is active is private to torch."""
    monkeypatch.setattr(limner.transforms, "_transforms_active", None)
    assert not limner.transforms.transformed()
    model, _, bound, parameters = parts("draw")
    model.memory = "store"
    with pytest.raises(RuntimeError, match="setup_context"):
        grad(bound)(*(p.detach() for p in parameters))
