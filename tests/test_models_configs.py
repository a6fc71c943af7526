"""Every valid config builds a working model; every invalid one is refused with one sentence."""

import json
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner import DRAWConfig, InputError, LadderVAEConfig, VAEConfig, elbo
from limner.config import RunConfig
from limner.layers.names import ObservationName
from limner.models import build

small = st.integers(1, 4)
widths = st.lists(small, max_size=3).map(tuple)
observation = st.sampled_from(get_args(ObservationName))
activation = st.sampled_from(["relu", "leaky_relu", "tanh", "elu", "silu"])

vaes = st.builds(
    VAEConfig, hidden_dims=widths, latent_dim=small, observation=observation, activation=activation
)
ladders = st.integers(1, 3).flatmap(
    lambda layers: st.builds(
        LadderVAEConfig,
        hidden_dims=st.tuples(*[small] * layers),
        latent_dims=st.tuples(*[small] * layers),
        observation=observation,
        activation=activation,
    )
)
draws = st.builds(
    DRAWConfig,
    num_steps=small,
    attention=st.sampled_from(["none", "filterbank"]),
    read_size=small,
    write_size=small,
    hidden_dim=small,
    latent_dim=small,
    observation=observation,
    prior=st.sampled_from(["standard", "learned"]),
    memory=st.sampled_from(["auto", "store", "recompute"]),
)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    config=vaes | ladders | draws,
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
)
def test_every_valid_config_explains_and_draws(config, shape):
    model = build(config, shape)
    x = torch.rand(2, *shape).round()
    inference = model.infer(x)
    assert inference.kl.shape == (2, model.num_groups)
    assert elbo(inference).isfinite().all()
    elbo(inference).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    generation = model.eval().generate(2)
    assert generation.images.shape == (2, *shape)
    assert model.infer(x, trace=True).observation.sample().shape == (2, *shape)
    if isinstance(config, DRAWConfig):
        assert generation.canvases.shape == (config.num_steps, 2, *model.canvas_shape)


@given(config=vaes | ladders | draws)
@settings(deadline=None, derandomize=True)
def test_a_config_survives_json(config):
    run = RunConfig(model=config, epochs=1)
    assert RunConfig.parse(json.loads(run.to_json())) == run
    assert type(config).parse(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("config", "values", "names"),
    [
        (DRAWConfig, {"num_steps": 0}, "num_steps"),
        (DRAWConfig, {"num_steps": 2.5}, "num_steps"),
        (DRAWConfig, {"read_size": 0}, "read_size"),
        (DRAWConfig, {"write_size": -1}, "write_size"),
        (DRAWConfig, {"attention": "soft"}, "attention"),
        (DRAWConfig, {"memory": "none"}, "memory"),
        (DRAWConfig, {"steps": 3}, "steps"),
        (VAEConfig, {"latent_dim": 0}, "latent_dim"),
        (VAEConfig, {"hidden_dims": (4, 0)}, "hidden_dims"),
        (VAEConfig, {"observation": "poisson"}, "observation"),
        (VAEConfig, {"kind": "draw"}, "kind"),
        (LadderVAEConfig, {"hidden_dims": ()}, "hidden_dims"),
        (LadderVAEConfig, {"latent_dims": (2,)}, "latent_dims"),
        (LadderVAEConfig, {"hidden_dims": (4, 3), "latent_dims": (2,)}, "hidden_dims"),
        (LadderVAEConfig, {"activation": "step"}, "activation"),
    ],
)
def test_an_invalid_setting_is_refused_in_a_sentence_that_names_it(config, values, names):
    with pytest.raises(InputError) as refused:
        config(**values)
    sentence = str(refused.value)
    assert names in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    with pytest.raises(InputError, match=names):
        config().with_(**values)
    with pytest.raises(InputError):
        config.parse([values])


def test_a_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        DRAWConfig().num_steps = 3
