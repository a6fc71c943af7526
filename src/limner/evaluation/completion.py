"""Images completed where pixels are missing, by the pseudo-Gibbs chain of Rezende et al. (2014).

Known pixels x_o stay; missing ones x_m start from a draw of the model and are then drawn anew,

    z ~ q(z | x_o, x_m),   x_m ~ p(x_m | z),

round after round (section 4.5 and appendix F). Where q is the exact posterior this is Gibbs
sampling, whose stationary distribution is p(x_m | x_o); else it comes near to that as q does.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limner.errors import InputError
from limner.models import LatentVariableModel


class Completion(NamedTuple):
    """A chain, round by round. Known pixels are those of x in every image of both fields."""

    images: Float[Tensor, "rounds n channels height width"]
    """The chain's states: x_o beside the x_m that were drawn."""
    means: Float[Tensor, "rounds n channels height width"]
    """x_o beside E[x_m | z], which looks smoother."""


@torch.no_grad()
def complete(
    model: LatentVariableModel,
    x: Float[Tensor, "n channels height width"],
    known: Bool[Tensor, "#n #channels height width"],
    rounds: int = 20,
    generator: torch.Generator | None = None,
) -> Completion:
    """Draw the missing pixels of `x`, those that are not `known`, in `rounds` of the chain.

    Each image has a chain of its own; what `x` holds in missing pixels has no influence.

    Raises:
        InputError: fewer than one round.
    """
    if rounds < 1:
        raise InputError(f"A chain has at least one round; got {rounds}.")
    state = torch.where(known, x, model.sample(len(x), generator, draw=True))
    images, means = [], []
    for _ in range(rounds):
        observation = model.infer(state, generator, trace=True).observation
        assert observation is not None
        state = torch.where(known, x, observation.sample(generator))
        images.append(state)
        means.append(torch.where(known, x, observation.mean))
    return Completion(torch.stack(images), torch.stack(means))
