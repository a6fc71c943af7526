"""Bounds on log p(x), in nats per image, [batch], higher is better."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limner.models.base import Inference, LatentVariableModel


def elbo(inference: Inference) -> Float[Tensor, " batch"]:
    """The evidence lower bound, E_q[log p(x | z)] - sum over groups KL(q || p) <= log p(x)."""
    return inference.log_likelihood - inference.kl.sum(1)


@torch.no_grad()
def importance_weighted_bound(
    model: LatentVariableModel,
    x: Float[Tensor, "batch channels height width"],
    num_samples: int,
    chunk_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " batch"]:
    """L_K = E log 1/K sum_k p(x, z_k) / q(z_k | x), z_k ~ q (Burda et al. 2016), [batch] nats.

    L_1 is the ELBO in expectation, and L_K rises with K towards log p(x).

    Args:
        num_samples: K.
        chunk_size: samples of one image that are taken at once; all where None. Memory grows with
            batch times chunk_size; every sample has noise of its own, so the bound does not depend
            on it.
        generator: source of the noise; the global seed where None.

    Raises:
        RuntimeError: the model is in training mode, whose batch norm mixes images.
    """
    if model.training:
        raise RuntimeError("importance_weighted_bound evaluates; call model.eval() first.")
    chunk_size = min(chunk_size or num_samples, num_samples)
    seeds = torch.randint(2**62, (num_samples,), generator=generator).tolist()
    total = x.new_full((x.shape[0],), -math.inf)
    for first in range(0, num_samples, chunk_size):
        chunk = seeds[first : first + chunk_size]
        sources = [torch.Generator(x.device).manual_seed(seed) for seed in chunk]
        repeated = x.repeat(len(chunk), 1, 1, 1)
        log_weights = elbo(model.infer(repeated, sources, divergence="sampled"))
        total = torch.logaddexp(total, log_weights.unflatten(0, (len(chunk), -1)).logsumexp(0))
    return total - math.log(num_samples)
