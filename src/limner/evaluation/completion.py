"""Missing pixels of images, completed by the pseudo-Gibbs chain of Rezende et al. (2014).

Known pixels x_o stay fixed. Missing pixels x_m start from a sample of the model; then each round
samples

    z ~ q(z | x_o, x_m),   x_m ~ p(x_m | z)

(section 4.5 and appendix F). If q is the exact posterior, this is Gibbs sampling with stationary
distribution p(x_m | x_o); otherwise the closer q is to the posterior, the closer is the chain.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limner.errors import InputError
from limner.models import LatentVariableModel


class Completion(NamedTuple):
    """A chain by round. In every image of both fields, known pixels are those of x."""

    images: Float[Tensor, "rounds n channels height width"]
    """The states of the chain: x_o and the sampled x_m."""
    means: Float[Tensor, "rounds n channels height width"]
    """x_o and E[x_m | z], which looks smoother."""


@torch.no_grad()
def complete(
    model: LatentVariableModel,
    x: Float[Tensor, "n channels height width"],
    known: Bool[Tensor, "#n #channels height width"],
    rounds: int = 20,
    generator: torch.Generator | None = None,
) -> Completion:
    """Sample the missing pixels of `x`, those that are not `known`, in `rounds` of the chain.

    Each image has its own chain. The values of `x` in missing pixels have no influence.

    Raises:
        InputError: fewer than one round.
    """
    if rounds < 1:
        raise InputError(f"A chain needs at least one round; got {rounds}.")
    state = torch.where(known, x, model.sample(len(x), generator, draw=True))
    images, means = [], []
    for _ in range(rounds):
        observation = model.infer(state, generator, trace=True).observation
        assert observation is not None
        state = torch.where(known, x, observation.sample(generator))
        images.append(state)
        means.append(torch.where(known, x, observation.mean))
    return Completion(torch.stack(images), torch.stack(means))
