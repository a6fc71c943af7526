"""Properties that every model must have, for any shapes of its latent groups."""

import subprocess
import sys
from typing import get_args

import pytest
import torch
from torch.func import functional_call
from torch.testing import assert_close

from limner import (
    ConvDRAWConfig,
    ConvLadderVAEConfig,
    ConvVAEConfig,
    DRAWConfig,
    LadderVAEConfig,
    VAEConfig,
    elbo,
)
from limner.layers.names import ObservationName
from limner.models import build

CONFIGS = {
    "vae": VAEConfig(hidden_dims=(8, 6), latent_dim=3),
    "ladder": LadderVAEConfig(hidden_dims=(8, 6, 5), latent_dims=(4, 3, 2)),
    "draw": DRAWConfig(num_steps=3, hidden_dim=6, latent_dim=3),
    "draw-attention": DRAWConfig(
        num_steps=3, hidden_dim=6, latent_dim=3, attention="filterbank", write_size=3
    ),
    "draw-learned-prior": DRAWConfig(
        num_steps=3, hidden_dim=6, latent_dim=3, attention="filterbank", prior="learned"
    ),
    "conv-vae": ConvVAEConfig(hidden_maps=(3, 4), latent_dim=3),
    "conv-ladder": ConvLadderVAEConfig(groups="1x1,4x2", hidden_maps=3, latent_maps=2),
    "conv-ladder-learned": ConvLadderVAEConfig(
        groups="2x2", hidden_maps=3, latent_maps=1, blocks=0, posterior="learned"
    ),
    "conv-draw": ConvDRAWConfig(num_steps=3, hidden_maps=3, latent_maps=2),
    "conv-draw-untied": ConvDRAWConfig(
        num_steps=3, hidden_maps=2, latent_maps=1, scale=2, tied=False
    ),
}
OBSERVATIONS = get_args(ObservationName)
models = pytest.mark.parametrize("kind", CONFIGS)
observations = pytest.mark.parametrize("observation", OBSERVATIONS)
shapes = pytest.mark.parametrize("shape", [(1, 4, 5), (3, 9, 7)], ids=str)


def make(kind, observation="bernoulli", shape=(1, 4, 5)):
    """A model in float64 and evaluation mode, away from where it starts."""
    torch.manual_seed(0)
    model = build(CONFIGS[kind].with_(observation=observation), shape).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def images(n, shape=(1, 4, 5)):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, *shape, generator=generator, dtype=torch.float64).round()


def seeded(seed=7):
    return torch.Generator().manual_seed(seed)


@models
@observations
@shapes
def test_gradients_reach_every_parameter_and_shapes_hold(kind, observation, shape):
    model, x = make(kind, observation, shape).train(), images(6, shape)
    inference = model.infer(x)
    assert inference.kl.shape == (6, model.num_groups)
    assert inference[2:] == (None,) * 5
    bound = elbo(inference)
    assert_close(bound, inference.log_likelihood - inference.kl.sum(1))
    bound.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    for drawn in (model.sample(2), model.sample(2, draw=True)):
        assert drawn.shape == (2, *shape)
        assert ((drawn >= 0) & (drawn <= 1)).all()


@models
def test_gradients_are_those_of_the_bound(kind):
    """By finite differences, through draws, attention and recurrence."""
    model, x = make(kind, shape=(1, 3, 2)), images(2, (1, 3, 2))
    names, parameters = zip(*model.named_parameters(), strict=True)

    def bound(*values):
        given = dict(zip(names, values, strict=True))
        return elbo(functional_call(model, given, (x, seeded())))

    assert torch.autograd.gradcheck(bound, parameters, fast_mode=True)


@models
@observations
def test_a_saved_model_gives_the_same_numbers(kind, observation):
    model, x = make(kind, observation), images(3)
    model.train()
    model.infer(x)  # moves the running statistics of batch norm
    model.eval()
    copy = build(model.config, model.image_shape).double().eval()
    copy.load_state_dict(model.state_dict())
    assert torch.equal(elbo(copy.infer(x, seeded())), elbo(model.infer(x, seeded())))
    assert torch.equal(copy.sample(3, seeded()), model.sample(3, seeded()))


@models
@torch.no_grad()
def test_images_of_a_batch_are_independent_to_the_bit(kind):
    model, x = make(kind), images(4)
    before = model.infer(x, seeded(), trace=True)
    x[1] = 1 - x[1]
    after = model.infer(x, seeded(), trace=True)
    others = [0, 2, 3]
    assert torch.equal(before.kl[others], after.kl[others])
    assert torch.equal(before.log_likelihood[others], after.log_likelihood[others])
    assert torch.equal(before.observation.mean[others], after.observation.mean[others])
    assert (before.kl[1] != after.kl[1]).all()


@models
def test_an_empty_batch_has_bounds_and_gradients(kind):
    model = make(kind)
    bound = elbo(model.infer(images(0)))
    assert bound.shape == (0,)
    bound.sum().backward()
    assert model.sample(0).shape == (0, 1, 4, 5)


@models
@torch.no_grad()
def test_noise_is_fresh_for_every_group_and_image_and_fixed_by_its_source(kind):
    model, x = make(kind), images(1).expand(3, -1, -1, -1)
    inference = model.infer(x, seeded(), trace=True)
    noise = torch.cat([((z - q.loc) / q.scale).flatten() for q, _, z in inference.latents])
    assert len({round(value, 6) for value in noise.tolist()}) == len(noise)
    assert torch.equal(model.infer(x, seeded()).kl, inference.kl)
    torch.manual_seed(7)
    assert torch.equal(model.infer(x).kl, inference.kl)
    assert not torch.equal(elbo(model.infer(x)), elbo(inference))
    drawn = model.sample(3, seeded())
    assert torch.equal(drawn, model.sample(3, seeded()))
    assert not torch.allclose(drawn, model.sample(3, seeded(8)))
    assert not torch.allclose(drawn[0], drawn[1])


@models
@torch.no_grad()
def test_several_generators_explain_the_batch_once_each(kind):
    """As each would alone."""
    model, x = make(kind), images(2)
    both = model.infer(x, [seeded(1), seeded(2)])
    for share, seed in zip(elbo(both).chunk(2), (1, 2), strict=True):
        assert_close(share, elbo(model.infer(x, seeded(seed))))


@models
@torch.no_grad()
def test_tracing_changes_no_number_and_tells_the_groups(kind):
    model, x = make(kind), images(3)
    inference = model.infer(x, seeded(), trace=True)
    assert_close(tuple(model.infer(x, seeded())[:2]), tuple(inference[:2]))
    assert_close(inference.observation.log_prob(x), inference.log_likelihood)
    assert len(inference.latents) == model.num_groups == len(model.group_names)
    for i, (q, p, z) in enumerate(inference.latents):
        assert z.shape == q.loc.shape == p.loc.shape
        assert z.shape == (3, *model.latent_shapes[i])
        kl = torch.distributions.kl_divergence(q, p).flatten(1).sum(1)
        assert_close(inference.kl[:, i], kl)
    sampled = model.infer(x, seeded(), divergence="sampled").kl
    log_ratios = [
        (q.log_prob(z) - p.log_prob(z)).flatten(1).sum(1) for q, p, z in inference.latents
    ]
    assert_close(sampled, torch.stack(log_ratios, 1))


@models
@torch.no_grad()
def test_the_sampled_divergence_has_the_mean_of_the_closed_form(kind):
    model, x = make(kind), images(1).expand(4000, -1, -1, -1)
    closed, sampled = (
        model.infer(x, seeded(), divergence=divergence).kl.sum(1)
        for divergence in ("closed_form", "sampled")
    )
    difference = sampled - closed
    assert difference.mean().abs() < 4 * difference.std() / len(difference) ** 0.5


@models
@torch.no_grad()
def test_latents_can_be_given_or_held_at_their_means(kind):
    model, x = make(kind), images(3)
    inference = model.infer(x, seeded(), trace=True)
    latents = [group.z for group in inference.latents]
    assert_close(model.infer(x, latents=latents).kl, inference.kl)
    assert_close(model.generate(3, latents=latents).images, inference.observation.mean)
    held = model.infer(x, trace=True, latents="mean")
    for q, _, z in held.latents:
        assert_close(z, q.loc)
    alike = model.generate(3, latents="mean").images
    assert_close(alike[0], alike[1])


@models
@torch.no_grad()
def test_generation_takes_some_latents_and_noise_and_draws_the_rest(kind):
    model = make(kind)
    drawn = model.generate(3, seeded())
    zs = drawn.latents
    assert [z.shape for z in zs] == [(3, *shape) for shape in model.latent_shapes]
    assert_close(model.generate(3, latents=zs).images, drawn.images)
    assert model.generate(3, trace=False).latents is None

    p = [group.p for group in model.infer(images(3), latents=zs, trace=True).latents]
    noise = [(z - each.loc) / each.scale for z, each in zip(zs, p, strict=True)]
    assert_close(model.generate(3, noise=noise).images, drawn.images)

    for one in range(model.num_groups):
        held = [z if group == one else None for group, z in enumerate(zs)]
        some = [e if group == one else None for group, e in enumerate(noise)]
        first = model.generate(3, seeded(1), latents=held)
        assert torch.equal(first.latents[one], zs[one])
        assert torch.equal(first.images, model.generate(3, seeded(1), latents=held).images)
        second = model.generate(3, seeded(1), noise=some)
        for other in {*range(model.num_groups)} - {one}:
            assert not torch.allclose(first.latents[other], zs[other])
            assert not torch.allclose(second.latents[other], zs[other])

    means = model.generate(3, latents=["mean"] * model.num_groups)
    assert_close(means.images, model.generate(3, latents="mean").images)
    silent = [torch.zeros(3, *shape).double() for shape in model.latent_shapes]
    assert_close(means.images, model.generate(3, noise=silent).images)


@models
@observations
@torch.no_grad()
def test_a_model_starts_from_the_mean_image(kind, observation):
    torch.manual_seed(0)
    model, x = build(CONFIGS[kind].with_(observation=observation), (1, 4, 5)), images(50).float()
    assert model.init_from_images(x) is model
    start = model.observe(model._output_bias.reshape(1, *model.canvas_shape))
    if observation.endswith("mixture"):
        assert_close(start.mean[0], x.mean(0), atol=0.05, rtol=0)
    else:
        location = start.mean if observation == "bernoulli" else start.location
        assert_close(location[0], x.mean(0).clamp(0.01, 0.99))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
@pytest.mark.parametrize(
    "kind", ["ladder", "draw", "draw-learned-prior", "conv-ladder-learned", "conv-draw-untied"]
)
def test_compiled_equals_eager(kind):
    model, x = make(kind).train(), images(3)
    results = []
    torch._dynamo.reset()
    for compiled in (False, True):
        if compiled:
            model.compile_parts()
        model.zero_grad()
        # The checks of shapes share one code object, so that every part counts against one limit.
        with torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True):
            bound = elbo(model.infer(x, seeded()))
        bound.sum().backward()
        results.append((bound, [parameter.grad for parameter in model.parameters()]))
    assert_close(*results)


COMPILE = """
import functools
import torch
from limner import ConvDRAWConfig, DRAWConfig, LadderVAEConfig
from limner.models import build

compile = torch.compile

@functools.wraps(compile)
def traced(function, options=None, **others):  # counts the graphs, and makes no code of them
    return compile(function, backend="aot_eager", **others)

torch.compile = traced
with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
    for config in (
        LadderVAEConfig(hidden_dims=(2, 2), latent_dims=(2, 2)),
        *(DRAWConfig(num_steps=3, hidden_dim=w, latent_dim=2) for w in (2, 3, 4)),
        DRAWConfig(num_steps=3, attention="filterbank", hidden_dim=2, latent_dim=2),
        ConvDRAWConfig(num_steps=3, hidden_maps=2, latent_maps=1, tied=False),
    ):
        torch._dynamo.utils.counters.clear()
        model = build(config, (1, 2, 2))
        model.compile_parts()
        model.train().infer(torch.zeros(4, 1, 2, 2))
        assert torch._dynamo.utils.counters["frames"]["ok"] >= 1, config
        versions = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert versions == 1, f"{config}: {versions} versions, one serves all steps"
        for n in (4, 3):
            with torch.no_grad():
                model.eval().infer(torch.zeros(n, 1, 2, 2))
"""


@pytest.mark.slow
def test_training_and_evaluation_stay_compiled():
    """Torch gives up, and says so only in a log, after eight versions of one function."""
    run = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]


@models
def test_bfloat16_rounds_products_alone(kind):
    model, x = make(kind).float(), images(32).float()
    exact = model.infer(x, seeded(), trace=True)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.infer(x, seeded(), trace=True)
    kept = (rounded.kl, rounded.log_likelihood, rounded.observation.mean, rounded.canvases)
    assert all(tensor.dtype is torch.float32 for tensor in kept if tensor is not None)
    assert all(q.loc.dtype is torch.float32 for q, _, _ in rounded.latents)
    bounds = [i.log_likelihood.double() - i.kl.sum(1).double() for i in (exact, rounded)]
    assert not torch.equal(*bounds)
    assert_close(bounds[1].mean(), bounds[0].mean(), rtol=0.01, atol=0.0)
