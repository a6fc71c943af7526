"""The convolutional models against their equations, and on images of many sizes."""

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from limner import ConvDRAW, ConvDRAWConfig, ConvLadderVAE, ConvLadderVAEConfig, ConvVAEConfig, elbo
from limner.errors import InputError
from limner.layers.gaussian import precision_weighted
from limner.models import build
from limner.training.start import _differing

T, MAPS, LATENT = 3, 3, 2


def moved(model):
    """`model` in float64, away from where it starts."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.double().parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model.eval()


def conv_draw(shape=(2, 5, 6), **settings):
    config = ConvDRAWConfig(num_steps=T, hidden_maps=MAPS, latent_maps=LATENT, **settings)
    return moved(ConvDRAW(config, shape))


def binary(n, shape):
    generator = torch.Generator().manual_seed(3)
    return torch.rand(n, *shape, generator=generator, dtype=torch.float64).round()


def cells(x, scale):
    height, width = x.shape[-2:]
    return F.pixel_unshuffle(F.pad(x, (0, -width % scale, 0, -height % scale)), scale)


def lstm(weights, name, inputs, state):
    h, c = state
    v = torch.cat([*inputs, h], dim=1)
    gates = F.conv2d(v, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)
    i, f, g, o = gates.chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


@pytest.mark.parametrize("tied", [True, False])
def test_conv_draw_equals_its_equations(tied):
    model, x = conv_draw(tied=tied, scale=2), binary(4, (2, 5, 6))
    inference = model.infer(x, torch.Generator().manual_seed(7), trace=True)
    w = dict(model.named_parameters())
    canvas = w["c_0"].expand(4, -1, -1, -1)
    encoder, decoder = (
        tuple(w[f"{name}_start.{part}"].expand(4, -1, -1, -1) for part in "hc")
        for name in ("encoder", "decoder")
    )
    for t in range(T):
        step = {name.removeprefix(f"steps.{0 if tied else t}."): value for name, value in w.items()}

        def conv(name, v, step=step):
            return F.conv2d(v, step[f"{name}.weight"], step.get(f"{name}.bias"), padding=1)

        error = x - torch.sigmoid(canvas)
        read = conv("read", cells(torch.cat([x, error], 1), 2))
        p_mu, p_log_sigma = conv("prior", decoder[0]).chunk(2, 1)
        encoder = lstm(step, "encoder", [read, decoder[0]], encoder)
        mu, log_sigma = conv("posterior", torch.cat([encoder[0], decoder[0]], 1)).chunk(2, 1)
        q, p = Normal(mu, log_sigma.exp()), Normal(p_mu, p_log_sigma.exp())
        z = inference.latents[t].z
        assert_close(inference.latents[t].q.loc, q.loc)
        assert_close(inference.kl[:, t], kl_divergence(q, p).flatten(1).sum(1))
        decoder = lstm(step, "decoder", [z, conv("look", cells(canvas, 2))], decoder)
        canvas = canvas + F.pixel_shuffle(conv("write", decoder[0]), 2)[..., :5, :6]
        assert_close(inference.canvases[t], canvas)
    terms = F.binary_cross_entropy_with_logits(canvas, x, reduction="none")
    assert_close(inference.log_likelihood, -terms.flatten(1).sum(1))


def test_untied_steps_with_equal_weights_are_tied_ones():
    tied, untied, x = conv_draw(), conv_draw(tied=False), binary(3, (2, 5, 6))
    state = tied.state_dict()
    for name, own in untied.state_dict().items():
        group, *rest = name.split(".", 2)
        own.copy_(state[f"steps.0.{rest[1]}" if group == "steps" else name])
    found = [elbo(model.infer(x, torch.Generator().manual_seed(1))) for model in (tied, untied)]
    assert_close(*found)
    assert len(list(untied.steps.parameters())) == T * len(list(tied.steps.parameters()))


def test_weights_of_another_depth_fit_only_tied_steps():
    assert "num_steps" in ConvDRAWConfig().free
    assert "num_steps" not in ConvDRAWConfig(tied=False).free
    tied, untied = ConvDRAWConfig(num_steps=8), ConvDRAWConfig(num_steps=8, tied=False)
    assert _differing(tied, untied) == _differing(untied, tied) == ["tied"]
    assert _differing(tied, ConvDRAWConfig(num_steps=4)) == []
    assert _differing(untied, ConvDRAWConfig(num_steps=4, tied=False)) == ["num_steps"]


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_depth_is_a_dial(tied):
    """Untied steps beyond the model's own repeat the last."""
    model, x = conv_draw(tied=tied), binary(3, (2, 5, 6))
    kl = {}
    for model.num_steps in (T - 1, T, T + 2):
        kl[model.num_steps] = model.infer(x, torch.Generator().manual_seed(1)).kl
    assert_close(kl[T][:, : T - 1], kl[T - 1])
    assert_close(kl[T + 2][:, :T], kl[T])
    model.steps.extend([] if tied else [model.steps[-1]] * 2)
    assert_close(model.infer(x, torch.Generator().manual_seed(1)).kl, kl[T + 2])


@pytest.mark.parametrize("posterior", ["merged", "learned"])
def test_conv_ladder_equals_its_equations(posterior):
    config = ConvLadderVAEConfig(
        groups="2x2,4x1", hidden_maps=3, latent_maps=2, posterior=posterior
    )
    model, x = moved(ConvLadderVAE(config, (1, 6, 5))), binary(4, (1, 6, 5))
    inference = model.infer(x, trace=True)
    assert [latent.z.shape[1:] for latent in inference.latents] == [(2, 3, 3), (2, 3, 3), (2, 2, 2)]
    d_2 = model.up[0](x)
    evidence = [d_2, d_2, model.up[1](d_2)]
    h = model.h_0.expand(4, -1, -1, -1)
    for i in (2, 1, 0):
        group, (q, p, z) = model.groups[i], inference.latents[i]
        if i == 1:
            h = group.enter(h)
        top = Normal(torch.zeros_like(z), torch.ones_like(z))
        expected = top if i == 2 else group.prior_head(h)
        assert_close((p.loc, p.scale), (expected.loc, expected.scale))
        if posterior == "learned":
            expected = group.posterior_head(torch.cat([h, evidence[i]], 1))
        else:
            expected = group.posterior_head(evidence[i])
            expected = expected if i == 2 else precision_weighted(expected, p)
        assert_close((q.loc, q.scale), (expected.loc, expected.scale))
        assert_close(inference.kl[:, i], kl_divergence(q, p).flatten(1).sum(1))
        h = group.block(h + group.mix(z))
    canvas = model.output(model.before(h)) + model.output_bias
    terms = F.binary_cross_entropy_with_logits(canvas, x, reduction="none")
    assert_close(inference.log_likelihood, -terms.flatten(1).sum(1))


@pytest.mark.parametrize("groups", ["", "2x", "3x1", "4x1,2x1", "2x1,2x2", "2x65", "2x1;4x1"])
def test_groups_that_cannot_be_read_are_refused(groups):
    with pytest.raises(InputError, match="give pairs such as 2x1,4x3"):
        ConvLadderVAEConfig(groups=groups)


@pytest.mark.parametrize(("groups", "named"), [("32x1", "32 follows 1"), ("2x1,64x1", "64 f.* 2")])
def test_scales_far_apart_are_refused(groups, named):
    with pytest.raises(InputError, match=rf"16 times .*{named}; .* add a scale"):
        ConvLadderVAEConfig(groups=groups)


@pytest.mark.parametrize(
    ("config", "maps"), [(ConvVAEConfig, (4, 1)), (ConvLadderVAEConfig, 1)], ids=["vae", "ladder"]
)
def test_a_single_map_is_refused_where_maps_are_normalised(config, maps):
    with pytest.raises(InputError, match="must be greater than or equal to 2"):
        config(hidden_maps=maps)


CONFIGS = {
    "vae": ConvVAEConfig(hidden_maps=(2, 3, 4), latent_dim=3),
    "vae maps": ConvVAEConfig(hidden_maps=(2, 3), latent="maps", latent_dim=1),
    "ladder": ConvLadderVAEConfig(groups="1x1,2x1,8x2", hidden_maps=2, latent_maps=1),
    "draw": ConvDRAWConfig(num_steps=2, hidden_maps=2, latent_maps=1),
    "draw, coarse": ConvDRAWConfig(num_steps=2, hidden_maps=2, latent_maps=1, scale=8, kernel=5),
}


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 37, 53), (2, 128, 9), (3, 1, 1)], ids=str)
def test_any_size(kind, shape):
    model = build(CONFIGS[kind], shape).eval()
    x = binary(2, shape).float()
    inference = model.infer(x, trace=True)
    assert inference.observation.mean.shape == x.shape
    assert [tuple(each.z.shape[1:]) for each in inference.latents] == model.latent_shapes
    assert model.sample(3).shape == (3, *shape)


@pytest.mark.parametrize("observation", ["bernoulli", "discretized_logistic"])
@pytest.mark.parametrize(
    "deep",
    [ConvDRAWConfig(num_steps=32, scale=2), ConvLadderVAEConfig(groups="1x12,2x12")],
    ids=["draw", "ladder"],
)
@torch.no_grad()
def test_a_deep_model_starts_near_the_mean_image(deep, observation):
    """It explains images hardly worse than the mean image, which it starts from; KL is small."""
    torch.manual_seed(0)
    x = F.interpolate(torch.rand(64, 1, 3, 3), size=(8, 8), mode="bilinear")
    x = x.round() if observation == "bernoulli" else (255 * x).round() / 255
    model = build(deep.with_(observation=observation), (1, 8, 8)).init_from_images(x)
    mean = model.observe(model._output_bias.expand(64, *model.canvas_shape)).log_prob(x)
    inference = model(x)
    assert (inference.log_likelihood - mean).mean() > -0.1 * 64
    assert inference.kl.sum(1).mean() < 0.25 * 64
