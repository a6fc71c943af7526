"""DRAW against a literal transcription of equations 1 to 11, and properties of deep models."""

from itertools import product

import psutil
import pytest
import torch
from torch.testing import assert_close

from limner import DRAW, DRAWConfig, elbo
from limner.models.memory import device_memory, host_memory
from map_draw import MapDraw, MapDrawConfig
from test_layers_attention import filters_by_loops, read_by_loops, write_by_loops

SHAPE = (2, 4, 3)
T, HIDDEN, LATENT = 3, 5, 2


def draw(shape=SHAPE, **settings):
    """A tiny DRAW in float64 with every parameter away from where it starts."""
    defaults = {"num_steps": T, "hidden_dim": HIDDEN, "latent_dim": LATENT}
    torch.manual_seed(1)
    model = DRAW(DRAWConfig(**(defaults | settings)), shape).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model


def binary(generator, *shape):
    return torch.rand(shape, generator=generator, dtype=torch.float64).round()


def seeded():
    return torch.Generator().manual_seed(7)


def draws_of(source, n):
    """Noise of each step, [n, latent]."""
    like = torch.empty(n, LATENT, dtype=torch.float64)
    return [torch.empty_like(like).normal_(generator=source) for _ in range(T)]


def linear(weights, name, v):
    return weights[f"{name}.weight"] @ v + weights[f"{name}.bias"]


def lstm_gate_by_gate(weights, name, inputs, h, c):
    """Hochreiter and Schmidhuber (1997) with forget gates, on one image."""
    W, b = weights[f"{name}.weight"], weights[f"{name}.bias"]
    v = torch.cat([inputs, h])
    gate = {g: W[k * HIDDEN : (k + 1) * HIDDEN] @ v + b[k * HIDDEN : (k + 1) * HIDDEN]
            for k, g in enumerate("ifgo")}  # fmt: skip
    c = torch.sigmoid(gate["f"]) * c + torch.sigmoid(gate["i"]) * torch.tanh(gate["g"])
    return torch.sigmoid(gate["o"]) * torch.tanh(c), c


def read(x, x_hat, W_h_dec, attention, N):
    if attention == "none":
        return torch.cat([x.flatten(), x_hat.flatten()])  # 17
    F_Y, F_X, (_, _, _, gamma) = filters_by_loops(W_h_dec[-5:], N, *x.shape[1:])
    patches = [read_by_loops(image, F_Y, F_X, gamma) for image in (x, x_hat)]
    return torch.cat([patch.flatten() for patch in patches])  # 27


def write(W_h_dec, attention, N, maps):
    if attention == "none":
        return W_h_dec.reshape(maps, *SHAPE[1:])  # 18
    F_Y, F_X, (_, _, _, gamma) = filters_by_loops(W_h_dec[-10:-5], N, *SHAPE[1:])
    return write_by_loops(W_h_dec[:-10].reshape(maps, N, N), F_Y, F_X, gamma)  # 28, 29


def infer_literally(weights, x, noise, attention, learned_prior, N_read, N_write):
    """One image: the KL of every step and the final canvas. `noise` is [T, latent]."""
    h_enc, c_enc = weights["encoder.h_0"], weights["encoder.c_0"]
    h_dec, c_dec = weights["decoder.h_0"], weights["decoder.c_0"]
    canvas, kl = weights["c_0"], []
    for t in range(len(noise)):
        x_hat = x - torch.sigmoid(canvas[: len(x)])  # 3
        r = read(x, x_hat, linear(weights, "heads", h_dec), attention, N_read)  # 4
        p_mu, p_sigma = torch.zeros(LATENT), torch.ones(LATENT)
        if learned_prior:
            p_mu, log_sigma = linear(weights, "prior_head.linear", h_dec).chunk(2)
            p_sigma = torch.exp(log_sigma)
        h_enc, c_enc = lstm_gate_by_gate(
            weights, "encoder", torch.cat([r, h_dec]), h_enc, c_enc
        )  # 5
        mu, log_sigma = linear(weights, "posterior_head.linear", h_enc).chunk(2)  # 1
        sigma = torch.exp(log_sigma)  # 2
        z = mu + sigma * noise[t]  # 6
        h_dec, c_dec = lstm_gate_by_gate(weights, "decoder", z, h_dec, c_dec)  # 7
        W_h_dec = linear(weights, "heads", h_dec)
        canvas = canvas + write(W_h_dec, attention, N_write, len(canvas))  # 8
        kl_t = 0.0  # 11, with the ratio to p where p is not N(0, I)
        for d in range(LATENT):
            var, p_var = sigma[d] ** 2, p_sigma[d] ** 2
            ratio = ((mu[d] - p_mu[d]) ** 2 + var) / p_var - torch.log(var / p_var) - 1
            kl_t = kl_t + 0.5 * ratio
        kl.append(kl_t)
    return torch.stack(kl), canvas


@pytest.mark.parametrize("attention", ["none", "filterbank"])
@pytest.mark.parametrize("prior", ["standard", "learned"])
@pytest.mark.parametrize("observation", ["bernoulli", "gaussian"])
@torch.no_grad()
def test_a_pass_equals_equations_1_to_11(generator, attention, prior, observation):
    model = draw(attention=attention, prior=prior, observation=observation, write_size=3)
    x = binary(generator, 2, *SHAPE)
    inference = model.infer(x, seeded(), trace=True)
    noise = draws_of(seeded(), 2)
    for n in range(2):
        kl, canvas = infer_literally(
            model.state_dict(),
            x[n],
            torch.stack(noise)[:, n],
            attention,
            prior == "learned",
            model.config.read_size,
            model.config.write_size,
        )
        assert_close(inference.kl[n], kl)
        assert_close(inference.canvases[-1, n], canvas)
        if observation == "bernoulli":
            p = torch.sigmoid(canvas)
            log_likelihood = (x[n] * p.log() + (1 - x[n]) * (1 - p).log()).sum()  # -L_x, 9
            assert_close(inference.log_likelihood[n], log_likelihood)
            assert_close(elbo(inference)[n], log_likelihood - kl.sum())


@pytest.mark.parametrize("attention", ["none", "filterbank"])
@pytest.mark.parametrize("steps", [1, 7])
def test_recomputing_equals_storing(generator, attention, steps):
    """Gradients, noise and the state in which both leave the generator or the global seed."""
    x = binary(generator, 2, *SHAPE)
    found = []
    for memory, source in product(("store", "recompute"), (seeded(), None)):
        model = draw(num_steps=steps, attention=attention, prior="learned", memory=memory)
        state = seeded().get_state()
        torch.set_rng_state(state)
        if source is not None:
            source.set_state(state)
        bound = elbo(model.infer(x, source))
        bound.sum().backward()
        after = torch.get_rng_state() if source is None else source.get_state()
        found.append((bound, [p.grad for p in model.parameters()], after))
    for other in found[1:]:
        assert_close(other, found[0])
        assert torch.equal(other[2], found[0][2])


def test_a_recomputed_step_drops_out_what_it_dropped(generator):
    """Also noise that a cell draws by itself, from the global random state, is the same again."""
    x, found = binary(generator, 2, 1, 4, 3), []
    for memory in ("store", "recompute"):
        torch.manual_seed(0)
        model = MapDraw(MapDrawConfig(num_steps=5, dropout=0.5, memory=memory), (1, 4, 3)).double()
        bound = elbo(model.train().infer(x, seeded()))
        bound.sum().backward()
        state = torch.get_rng_state()
        found.append((bound, [p.grad for p in model.parameters()], state))
    assert_close(found[1][:2], found[0][:2])
    assert torch.equal(found[1][2], found[0][2])


def test_recomputing_leaves_a_random_state_alone_that_it_does_not_use(generator):
    """What another thread draws meanwhile is not drawn again."""
    model, x = draw(memory="recompute", attention="none"), binary(generator, 2, *SHAPE)
    bound, before = elbo(model.infer(x, seeded())), torch.get_rng_state()
    drawn = []
    model.c_0.register_hook(lambda _: drawn.append(torch.rand(1).item()))
    bound.sum().backward()
    torch.set_rng_state(before)
    assert drawn == [torch.rand(1).item()]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("wrong", ["prior", "initial", "update"])
def test_a_mistake_in_a_cell_is_named(wrong):
    """Not hidden as a missing attribute of the model."""

    class Mistaken(MapDraw):
        def initial(self, batch):
            state = super().initial(batch)
            return tuple(state) if wrong == "initial" else state

        def prior(self, state):
            p = super().prior(state)
            return p.loc if wrong == "prior" else p

        def update(self, z, state):
            state = super().update(z, state)
            return state.canvas if wrong == "update" else state

    model = Mistaken(MapDrawConfig(num_steps=2), (1, 4, 3))
    with pytest.raises(TypeError, match=r"Mistaken: '(Tensor|tuple)' object has no attribute"):
        model.infer(torch.zeros(2, 1, 4, 3))


def test_one_generator_named_twice_is_replayed_once_for_all(generator):
    x, found = binary(generator, 2, *SHAPE), []
    for memory in ("store", "recompute"):
        model, source = draw(memory=memory, attention="none"), seeded()
        elbo(model.infer(x, [source, source])).sum().backward()
        found.append([p.grad for p in model.parameters()])
    assert_close(*found)


def test_recomputing_keeps_only_the_chunks_boundaries(generator):
    """The steps that autograd holds on to: all of them, or about 2 sqrt(T)."""
    x, held = binary(generator, 2, *SHAPE), {}
    for memory in ("store", "recompute"):
        model = draw(num_steps=49, attention="none", memory=memory)
        saved = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, saved=saved: saved.setdefault(tensor.data_ptr(), tensor),
            lambda tensor: tensor,
        ):
            inference = model.infer(x)
        held[memory] = sum(tensor.numel() for tensor in saved.values())
        del inference
    assert held["recompute"] < held["store"] / 7
    chunks = draw(num_steps=50)._chunks(recompute=True)
    assert [t for steps in chunks for t in steps] == list(range(50))
    assert len(chunks) <= 8  # recomputed one after the other
    assert max(map(len, chunks)) <= 8


def test_auto_memory_stores_until_a_quarter_of_the_memory_is_taken():
    per_image = draw(memory="store").stored_bytes(1)
    largest = device_memory(torch.device("cpu")) // 4 // per_image
    assert draw(memory="auto").memory_mode(largest - 1) == "store"
    assert draw(memory="auto").memory_mode(largest + 1) == "recompute"
    assert draw(memory="auto").stored_bytes(largest + 1) < largest * per_image


def test_a_container_may_have_less_memory_than_the_machine(tmp_path):
    limited, unlimited = tmp_path / "memory.max", tmp_path / "unlimited"
    limited.write_text("1048576\n")
    unlimited.write_text("max\n")
    assert host_memory((limited, unlimited)) == 2**20
    assert host_memory((unlimited, tmp_path / "none")) == psutil.virtual_memory().total


@pytest.mark.parametrize("attention", ["none", "filterbank"])
@torch.no_grad()
def test_the_number_of_steps_is_a_dial_on_a_trained_model(generator, attention):
    """The first steps of a longer run are the shorter run."""
    model = draw(attention=attention, prior="learned")
    x = binary(generator, 2, *SHAPE)
    kl, canvases = [], []
    for steps in (T, 1, 6):
        model.num_steps = steps
        inference = model.infer(x, seeded(), trace=True)
        generation = model.generate(2, seeded())
        assert inference.kl.shape == (2, steps)
        assert len(model.group_names) == model.num_groups == len(generation.canvases) == steps
        kl.append(inference.kl)
        canvases.append((inference.canvases, generation.canvases))
    for i, steps in enumerate((T, 1)):
        assert torch.equal(kl[2][:, :steps], kl[i])
        for longer, shorter in zip(canvases[2], canvases[i], strict=True):
            assert torch.equal(longer[:steps], shorter)


@pytest.mark.parametrize("prior", ["standard", "learned"])
@torch.no_grad()
def test_every_step_of_generation_draws_anew_from_the_prior(prior):
    model = draw(attention="filterbank", prior=prior)
    source = seeded()
    noise = [
        torch.empty(4, LATENT, dtype=torch.float64).normal_(generator=source) for _ in range(T)
    ]
    images = model.generate(4, seeded()).images
    if prior == "standard":
        assert_close(images, model.generate(4, latents=noise).images)
    repeated = model.generate(4, latents=[noise[0]] * T).images
    assert not torch.allclose(images, repeated)


@torch.no_grad()
def test_windows_are_where_it_read_and_wrote(generator):
    """The first reading window is that of h_0; each canvas is written by its own window."""
    model = draw(attention="filterbank", read_size=2, write_size=3)
    x = binary(generator, 2, *SHAPE)
    inference = model.infer(x, seeded(), trace=True)
    read, written = inference.windows
    for window in (read, written):
        assert window.center.shape == (T, 2, 2)
        assert {field.shape for field in window[1:]} == {(T, 2)}
    first = model.reader.read_window(model.heads(model.decoder.h_0))
    assert_close(read.center[0, 0], first.center)
    assert_close(model.generate(2, latents=[g.z for g in inference.latents]).windows.write, written)
    assert model.generate(2).windows.read is None
    assert draw(attention="none").infer(x, trace=True).windows is None


@pytest.mark.usefixtures("unchecked")  # for speed
@pytest.mark.parametrize("attention", ["none", "filterbank"])
@torch.no_grad()
def test_any_depth_starts_from_the_mean_image(generator, attention):
    """The first bound is within a few nats of what the mean image alone explains."""
    p = torch.rand(1, 12, 12, generator=generator) ** 3
    images = torch.rand(64, 1, 12, 12, generator=generator).lt(p).float()
    mean = images.mean(0).clamp(0.01, 0.99)
    baseline = (images * mean.log() + (1 - images) * (1 - mean).log()).sum((1, 2, 3)).mean()
    for steps in (4, 64, 256):
        torch.manual_seed(0)
        config = DRAWConfig(num_steps=steps, attention=attention, hidden_dim=32, latent_dim=10)
        model = DRAW(config, (1, 12, 12)).init_from_images(images)
        assert_close(model.c_0.sigmoid(), mean)
        bound = elbo(model.infer(images, generator)).mean()
        assert baseline - 4 < bound < baseline + 1


@torch.no_grad()
def test_start_of_windows_and_forget_gates():
    model = DRAW(DRAWConfig(attention="filterbank", read_size=2, write_size=5), (1, 28, 28))
    windows = model.infer(torch.zeros(1, 1, 28, 28), trace=True).windows
    for window, size in zip(windows, (2, 5), strict=True):
        assert_close(window.center[0, 0], torch.tensor([14.5, 14.5]), atol=1, rtol=0)
        assert_close(window.stride[0, 0].item(), 27 / (size - 1), rtol=0.1, atol=0)
        assert_close(window.sigma[0, 0].item(), 27 / (size - 1) / 2, rtol=0.1, atol=0)
    for cell in (model.encoder, model.decoder):
        assert_close(cell.bias[256:512], torch.ones(256))


@pytest.mark.parametrize("attention", ["none", "filterbank"])
def test_gradient_reaches_the_images(attention):
    model, x = draw(attention=attention), torch.rand(2, *SHAPE, dtype=torch.float64)

    def bound(x):
        return elbo(model.infer(x, seeded()))

    assert torch.autograd.gradcheck(bound, x.requires_grad_(), fast_mode=True)
