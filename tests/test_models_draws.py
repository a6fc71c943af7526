"""Noise that is drawn at once, as on CUDA: of each generator its own, in one call."""

import pytest
import torch
from torch.testing import assert_close

from limner import DRAWConfig, LadderVAEConfig, importance_weighted_bound
from limner.models import build
from limner.models.draws import Draws

SHAPES = [(3,), (2, 2), (5,)]


class OnCuda(torch.Tensor):
    """A tensor that seems to be on CUDA."""

    is_cuda = True


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def like(batch):
    return torch.zeros(batch, 1).as_subclass(OnCuda)


def noise_of(draws):
    groups = [
        draws.noise(group, torch.empty(draws.copies, *shape)) for group, shape in enumerate(SHAPES)
    ]
    return [group.as_subclass(torch.Tensor) for group in groups]


@pytest.mark.parametrize("given", [1, 4])
def test_each_generator_draws_its_own_noise_of_all_groups_by_one_call(given, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "limner.models.draws.fill_normal",
        lambda tensor, generator: calls.append(tensor.normal_(generator=generator).clone()),
    )
    drawn = Draws(generators(*range(given))).ahead(SHAPES, like(2))
    assert drawn.copies == given == len(calls)
    groups = noise_of(drawn)
    assert [group.shape for group in groups] == [(2 * given, *shape) for shape in SHAPES]
    for copy, numbers in enumerate(calls[:given]):
        rows = torch.cat([group[2 * copy : 2 * copy + 2].flatten() for group in groups])
        assert torch.equal(rows, numbers.as_subclass(torch.Tensor))
        alone = Draws(generators(copy)).ahead(SHAPES, like(2))
        for group, own in zip(groups, noise_of(alone), strict=True):
            assert torch.equal(group[2 * copy : 2 * copy + 2], own)


def test_noise_on_a_cpu_is_drawn_group_by_group_from_the_top():
    drawn = Draws(generators(0)).ahead(SHAPES, torch.zeros(2, 1))
    (source,) = generators(0)
    for group, shape in reversed([*enumerate(SHAPES)]):
        assert torch.equal(noise_of(drawn)[group], torch.empty(2, *shape).normal_(generator=source))


@pytest.mark.parametrize(
    "config",
    [
        LadderVAEConfig(hidden_dims=(8, 6, 5), latent_dims=(4, 3, 2)),
        DRAWConfig(num_steps=3, hidden_dim=6, latent_dim=3),
    ],
    ids=lambda config: config.kind,
)
def test_a_bound_does_not_depend_on_the_chunk_if_noise_is_drawn_at_once(config, monkeypatch):
    ahead, calls = Draws.ahead, []

    def as_on_cuda(draws, shapes, x):
        calls.append(draws.copies)
        return ahead(draws, shapes, x.as_subclass(OnCuda))

    monkeypatch.setattr(Draws, "ahead", as_on_cuda)
    run = type(build(config, (1, 4, 4)))._run

    def runs(model, x, draws, *rest):
        return run(model, x, draws.ahead(model.latent_shapes, x), *rest)

    model = build(config, (1, 4, 4)).double().eval()
    monkeypatch.setattr(type(model), "_run", runs)
    x = torch.rand(3, 1, 4, 4, dtype=torch.float64).round()
    bounds = [
        importance_weighted_bound(model, x, 7, chunk, torch.Generator().manual_seed(1))
        for chunk in (None, 1, 3)
    ]
    assert 7 in calls
    assert 3 in calls
    for bound in bounds[1:]:
        assert_close(bound.as_subclass(torch.Tensor), bounds[0].as_subclass(torch.Tensor))
