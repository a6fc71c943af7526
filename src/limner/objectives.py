"""Bounds on log p(x), in nats per image, [batch], higher is better.

`elbo` and `importance_weighted_bound` are for evaluation; training maximises `objective`, with a
choice of gradient estimator. Let log w = log p(x, z) - log q(z | x) and v_k = w_k / sum_j w_j. The
estimators differ in their treatment of the score, d log q / d phi at a fixed z:

    plain   keeps the score: the gradient of the bound as written
    stl     drops the score (Roeder et al. 2017): unbiased for K = 1, because the score is zero in
            expectation, and without variance if q is the exact posterior; biased for K > 1
    dreg    replaces the score by a second reparameterisation (Tucker et al. 2019): the gradient
            with respect to z_k is v_k^2 d log w_k / d z_k. Unbiased for every K

stl and dreg hold for any number of groups, because z_1..z_L is one draw from one joint q (Bauer and
Mnih 2021): d log w / d z_t is taken at fixed parameters and other z, and passes through the chain
of draws by its total derivative. The score of p is kept.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

from limner.device import noise_source
from limner.errors import InputError
from limner.estimators import Gradient, ObjectiveKind, check_objective
from limner.layers.batch import batch_mean
from limner.layers.gaussian import log_ratio
from limner.models.base import Generator, Inference, Latent, LatentVariableModel
from limner.models.memory import device_memory


class ObjectiveTerms(NamedTuple):
    """The value that training maximises, and its two parts for the log, in nats.

    The parts are means over samples.
    """

    value: Float[Tensor, " batch"]
    log_likelihood: Float[Tensor, " batch"]
    kl: Float[Tensor, "batch groups"]
    """Closed form for the plain ELBO, otherwise log q(z) - log p(z). Not weighted by beta."""


def elbo(inference: Inference) -> Float[Tensor, " batch"]:
    """The evidence lower bound, E_q[log p(x | z)] - sum over groups KL(q || p) <= log p(x)."""
    return inference.log_likelihood - inference.kl.sum(1)


def objective(
    model: LatentVariableModel,
    x: Float[Tensor, "batch channels height width"],
    *,
    generator: Generator = None,
    kind: ObjectiveKind = "elbo",
    num_samples: int = 1,
    gradient: Gradient = "plain",
    beta: float | Tensor = 1.0,
    free_bits: float = 0.0,
) -> ObjectiveTerms:
    """The value to maximise per image, differentiable in the parameters.

    elbo: E_q[log p(x | z)] - beta sum_t max(free_bits, KL_t), averaged over `num_samples` draws.
    iwae: log 1/K sum_k p(x | z_k) (p(z_k) / q(z_k))^beta, K = `num_samples` (Burda et al. 2016).

    Args:
        gradient: the estimator, see the module's docstring. `dreg` assumes
            independent images; with batch norm in training mode this holds only approximately.
            `stl` and `dreg` keep every step of a DRAW in memory. With several groups, `stl` runs
            the model twice and `dreg` three times.
        beta: weight of the KL, a number or a tensor []. Below 1, as in KL warm-up, the value is
            not a bound.
        free_bits: nats per group without penalty: the KL of a group, averaged over the batch,
            counts as at least this much (Kingma et al. 2016, lambda of equation 15).

    Raises:
        InputError: a combination that is not defined; see `check_objective`.
    """
    check_objective(kind, num_samples, gradient, free_bits)
    _unwrapped(model).check_form(x)
    if num_samples > 1:
        x = x.repeat(num_samples, 1, 1, 1)
    if gradient == "plain":
        divergence = "closed_form" if kind == "elbo" else "sampled"
        inference: Inference = model(x, generator, divergence=divergence)
        log_likelihood, kl = inference.log_likelihood, inference.kl
    else:
        log_likelihood, kl = _without_score(
            model, x, generator, num_samples, beta if gradient == "dreg" else None
        )
    value = _weighted(log_likelihood, _floored(kl, free_bits), beta)
    if num_samples == 1:
        return ObjectiveTerms(value, log_likelihood, kl)
    samples = (num_samples, -1)
    value = value.unflatten(0, samples)
    return ObjectiveTerms(
        value.mean(0) if kind == "elbo" else value.logsumexp(0) - math.log(num_samples),
        log_likelihood.unflatten(0, samples).mean(0),
        kl.unflatten(0, samples).mean(0),
    )


def _weighted(log_likelihood: Tensor, kl: Tensor, beta: float | Tensor) -> Float[Tensor, " batch"]:
    total = kl.sum(1)
    unweighted = not isinstance(beta, Tensor) and beta == 1.0
    return log_likelihood - (total if unweighted else beta * total)


def _floored(kl: Float[Tensor, "batch groups"], free_bits: float) -> Float[Tensor, "batch groups"]:
    """KL whose batch mean is max(free_bits, mean KL) in every group; constant if floored."""
    if not free_bits:
        return kl
    return torch.where(batch_mean(kl) < free_bits, free_bits, kl)


def _without_score(
    model: LatentVariableModel,
    x: Float[Tensor, "rows channels height width"],
    generator: Generator,
    num_samples: int,
    beta: float | Tensor | None,
) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows groups"]]:
    """log p(x | z), and log q(z) - log p(z) with the parameters of q fixed.

    With `beta` (dreg), the gradients of both with respect to z_k are also scaled by
    1 - beta + beta v_k: the second reparameterisation of the score -beta v_k d log q adds
    -beta v_k (1 - v_k) d log w / d z.
    """
    inference: Inference = model(x, generator, trace=True, divergence="sampled")
    if beta is not None:
        log_w = _weighted(inference.log_likelihood, inference.kl, beta).detach()
        v = log_w.unflatten(0, (num_samples, -1)).softmax(0).flatten()
        inference = _scaled_at_z(model, x, inference, 1 - beta + beta * v)
    latents = inference.latents or []
    posteriors = _fixed_posteriors(model, x, latents)
    ratios = [log_ratio(q, p, z) for q, (_, p, z) in zip(posteriors, latents, strict=True)]
    return inference.log_likelihood, torch.stack(ratios, dim=1)


def _scaled_at_z(
    model: LatentVariableModel, x: Tensor, inference: Inference, scale: Float[Tensor, " rows"]
) -> Inference:
    """The same inference, with the gradients of all densities with respect to each z scaled.

    They are scaled once, not again when they pass through the draws to earlier groups. For one
    group a hook on z does this. For several, copies of z are scored again: hooks on the copies are
    outside the chain of draws.
    """
    zs = [latent.z for latent in inference.latents or []]
    if len(zs) > 1:
        zs = [z.clone() for z in zs]
    for z in zs:
        if z.requires_grad:
            z.register_hook(
                lambda gradient: gradient * scale.reshape(-1, *[1] * (gradient.dim() - 1))
            )
    return inference if len(zs) == 1 else _scored(model, x, zs, fixed=False)


def _fixed_posteriors(
    model: LatentVariableModel, x: Tensor, latents: Sequence[Latent]
) -> list[Normal]:
    """q of every group as a function of earlier z only, with its parameters fixed."""
    if len(latents) == 1:
        q = latents[0].q
        return [Normal(q.loc.detach(), q.scale.detach(), validate_args=False)]
    scored = _scored(model, x, [latent.z for latent in latents], fixed=True)
    return [latent.q for latent in scored.latents or []]


def _scored(model: LatentVariableModel, x: Tensor, zs: Sequence[Tensor], fixed: bool) -> Inference:
    """`zs` scored by the model, with its parameters fixed or not.

    Buffers are copied, so that running statistics of batch norm count the batch only once.
    """
    module = _unwrapped(model)
    state = {
        name: parameter.detach() if fixed else parameter
        for name, parameter in module.named_parameters()
    }
    state |= {name: buffer.clone() for name, buffer in module.named_buffers()}
    return functional_call(module, state, (x,), {"trace": True, "latents": zs})


def _unwrapped(model: LatentVariableModel | DistributedDataParallel) -> LatentVariableModel:
    """The model, which may be inside a DistributedDataParallel."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    assert isinstance(inner, LatentVariableModel)
    return inner


@torch.no_grad()
def importance_weighted_bound(
    model: LatentVariableModel,
    x: Float[Tensor, "batch channels height width"],
    num_samples: int,
    chunk_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " batch"]:
    """L_K = E log 1/K sum_k p(x, z_k) / q(z_k | x), z_k ~ q (Burda et al. 2016), [batch] nats.

    The expectation of L_1 is the ELBO, and L_K increases with K towards log p(x).

    Args:
        num_samples: K.
        chunk_size: samples per image at a time; if None, as many as fit; see `rows_that_fit`.
            Memory grows with batch times chunk_size. Each sample has its own noise, so the bound
            does not depend on the chunk size.
        generator: source of the noise; the global random state if None.

    Raises:
        RuntimeError: the model is in training mode, in which batch norm mixes images.
        InputError: fewer than one sample, a chunk size below one, or images the model cannot score.
    """
    if model.training:
        raise RuntimeError("importance_weighted_bound needs evaluation mode; call model.eval().")
    if num_samples < 1 or (chunk_size is not None and chunk_size < 1):
        raise InputError(
            f"num_samples and chunk_size must be at least 1; got {num_samples} and {chunk_size}."
        )
    model = _unwrapped(model)
    model.check_images(x)
    chunk_size = chunk_size or max(1, rows_that_fit(model) // max(1, x.shape[0]))
    total = x.new_full((x.shape[0],), -math.inf)
    for sources in sample_sources(num_samples, chunk_size, x.device, generator):
        log_weights = elbo(model(x, sources, divergence="sampled"))
        total = torch.logaddexp(total, log_weights.unflatten(0, (len(sources), -1)).logsumexp(0))
    return total - math.log(num_samples)


def sample_sources(
    count: int, chunk_size: int, device: torch.device, generator: torch.Generator | None = None
) -> Iterator[list[torch.Generator]]:
    """One generator per sample for `count` samples, in lists of at most `chunk_size`."""
    seeds = torch.randint(
        2**32, (count,), generator=generator, device=generator.device if generator else "cpu"
    )
    for chunk in seeds.split(chunk_size):
        yield [noise_source(device).manual_seed(seed) for seed in chunk.tolist()]


def rows_that_fit(
    model: LatentVariableModel, num_bytes: int | None = None, trace: bool = False
) -> int:
    """Number of images, at least one, that `infer` can take within about `num_bytes`.

    If None, an eighth of the memory of a GPU with CUDA, elsewhere a quarter of a GiB. Without
    gradients. An upper estimate of the memory: twice what autograd would save in one step, plus
    sixteen canvases in the observation model. With `trace`: all steps, and five more canvases per
    group.
    """
    once, per_step = model.saved_floats
    steps = model.num_groups if trace else 1
    arrays = 16 + (5 * model.num_groups if trace else 0)
    floats = 2 * (once + steps * per_step) + arrays * math.prod(model.canvas_shape)
    weight = next(model.parameters())
    if num_bytes is None:
        cuda = weight.device.type == "cuda"
        num_bytes = device_memory(weight.device) // 8 if cuda else 2**28
    return max(1, num_bytes // (weight.element_size() * floats))
