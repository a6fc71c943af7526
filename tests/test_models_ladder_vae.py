"""The Ladder VAE against a literal transcription of its equations."""

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.testing import assert_close

from limner import LadderVAE, LadderVAEConfig

SHAPE, LATENTS = (2, 3, 4), (4, 3, 2)


@pytest.fixture
def model(generator):
    """A ladder of three layers whose weights and batch statistics are all its own."""
    config = LadderVAEConfig(hidden_dims=(7, 6, 5), latent_dims=LATENTS)
    model = LadderVAE(config, SHAPE).double().eval()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(noise.abs() + 0.5 if "var" in name else 0.5 * noise)
    return model


class Literal:
    """The layers of the paper from a state dict, in evaluation mode."""

    def __init__(self, weights):
        self.weights = weights

    def linear(self, name, v):
        return v @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def batch_norm(self, name, v):
        mean, var = (self.weights[f"{name}.running_{moment}"] for moment in ("mean", "var"))
        normed = (v - mean) / torch.sqrt(var + 1e-5)
        return normed * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def mlp(self, name, v):
        for linear, norm in ((0, 1), (3, 4)):
            v = self.batch_norm(f"{name}.{norm}", self.linear(f"{name}.{linear}", v))
            v = torch.where(v > 0, v, 0.1 * v)
        return v

    def head(self, name, v):
        out = self.batch_norm(f"{name}.norm", self.linear(f"{name}.linear", v))
        half = out.shape[1] // 2
        return out[:, :half], torch.log1p(torch.exp(out[:, half:])) + 1e-6


@torch.no_grad()
def test_a_pass_equals_the_equations(model, generator):
    x = torch.rand(5, *SHAPE, generator=generator, dtype=torch.float64).round()
    state = generator.get_state()
    inference = model.infer(x, generator, trace=True)
    generator.set_state(state)
    ladder = Literal(model.state_dict())

    d, evidence = x.reshape(5, -1), []
    for i in range(3):
        d = ladder.mlp(f"up.{i}", d)
        evidence.append(ladder.head(f"up_heads.{i}", d))
    z = None
    for i in (2, 1, 0):
        mu, var = evidence[i]
        p_mu, p_var = torch.zeros_like(mu), torch.ones_like(var)
        if z is not None:
            p_mu, p_var = ladder.head(f"down_heads.{i}", ladder.mlp(f"down.{i + 1}", z))
            merged = 1 / (1 / var + 1 / p_var)
            mu, var = (mu / var + p_mu / p_var) * merged, merged
        z = mu + var.sqrt() * torch.empty_like(mu).normal_(generator=generator)
        group = inference.latents[i]  # bottom first
        assert_close((group.q.loc, group.q.variance), (mu, var))
        assert_close((group.p.loc, group.p.variance), (p_mu, p_var))
        assert_close(group.z, z)
        kl = kl_divergence(Normal(mu, var.sqrt()), Normal(p_mu, p_var.sqrt())).sum(1)
        assert_close(inference.kl[:, i], kl)
    logits = ladder.linear("output", ladder.mlp("down.0", z)).reshape(x.shape)
    assert_close(inference.log_likelihood, Bernoulli(logits=logits).log_prob(x).sum((1, 2, 3)))


@torch.no_grad()
def test_the_bottom_group_comes_first_and_the_top_is_standard(model, generator):
    x = torch.rand(5, *SHAPE, generator=generator, dtype=torch.float64).round()
    inference = model.infer(x, generator, trace=True)
    assert [group.z.shape[1] for group in inference.latents] == list(LATENTS)
    assert model.group_names == ["z_1", "z_2", "z_3"]
    top, evidence = inference.latents[-1], model._bottom_up(x)[-1]
    assert torch.equal(top.q.loc, evidence.loc)
    assert torch.equal(top.q.scale, evidence.scale)
    assert torch.equal(top.p.loc, torch.zeros(5, 2, dtype=torch.float64))
    assert torch.equal(top.p.scale, torch.ones(5, 2, dtype=torch.float64))


@torch.no_grad()
def test_generation_is_the_same_top_down_path(model, generator):
    """Latents of an inference, given to generation, draw what inference drew."""
    x = torch.rand(5, *SHAPE, generator=generator, dtype=torch.float64).round()
    inference = model.infer(x, generator, trace=True)
    latents = [group.z for group in inference.latents]
    assert_close(model.generate(5, latents=latents).images, inference.observation.mean)
    ladder, source = Literal(model.state_dict()), torch.Generator().manual_seed(3)
    z = torch.empty(5, 2, dtype=torch.float64).normal_(generator=source)
    for i in (1, 0):
        mu, var = ladder.head(f"down_heads.{i}", ladder.mlp(f"down.{i + 1}", z))
        z = mu + var.sqrt() * torch.empty_like(mu).normal_(generator=source)
    logits = ladder.linear("output", ladder.mlp("down.0", z)).reshape(x.shape)
    images = model.generate(5, torch.Generator().manual_seed(3)).images
    assert_close(images, torch.sigmoid(logits))


def test_softplus_variances_stay_above_their_floor(model):
    with torch.no_grad():
        for head in (*model.up_heads, *model.down_heads):
            head.norm.bias.fill_(-1e3)
    x = torch.zeros(2, *SHAPE, dtype=torch.float64)
    inference = model.infer(x)
    (inference.log_likelihood - inference.kl.sum(1)).sum().backward()
    assert inference.kl.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())
