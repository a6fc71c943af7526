"""The nats of a model by depth: with its first latent groups only."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limner.evaluation.likelihood import elbo_per_step
from limner.figures.depth import Profile
from limner.figures.subject import BATCH, Subject
from limner.models import LatentVariableModel, RecurrentModel
from limner.objectives import elbo

MAX_IMAGES = 500
"""Test images that the means are over, if the run was not evaluated step by step."""


@torch.no_grad()
def profile(subject: Subject, results: Mapping[str, Any]) -> Profile:
    """KL and -ELBO by depth: those of `limner evaluate --per-step`, or computed."""
    unit = "step" if isinstance(subject.model, RecurrentModel) else "layer"
    steps, kl = results.get("elbo_per_step", ()), results.get("kl_per_group", ())
    if len(steps) == len(kl) == subject.model.num_groups:
        return Profile(kl, [-step["mean"] for step in steps], results["num_images"], unit)
    generator, x = subject.generator(), subject.x[:MAX_IMAGES]
    found = [by_depth(subject.model, batch, generator) for batch in x.split(BATCH)]
    kl, bounds = (torch.cat(parts).cpu().double().mean(0) for parts in zip(*found, strict=True))
    return Profile(kl.tolist(), (-bounds).tolist(), len(x), unit)


def by_depth(
    model: LatentVariableModel, x: Tensor, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "batch groups"], Float[Tensor, "batch groups"]]:
    """KL of each group, and the ELBO with the first k groups, both in the order of drawing.

    The first k steps of a recurrent model are a model of k steps. In a hierarchy, the top k layers
    have their posterior and the layers below their prior: a bound of the same model with another q.
    """
    inference = model.infer(x, generator, trace=True)
    if isinstance(model, RecurrentModel):
        return inference.kl, elbo_per_step(model, x, inference)
    assert inference.latents is not None
    kl, held = inference.kl.flip(1), [latent.z for latent in inference.latents]
    bounds = []
    for below in range(len(held) - 1, 0, -1):
        latents = [None] * below + held[below:]
        drawn = model.generate(len(x), generator, trace=False, latents=latents).observation
        bounds.append(drawn.log_prob(x) - inference.kl[:, below:].sum(1))
    return kl, torch.stack([*bounds, elbo(inference)], dim=1)
