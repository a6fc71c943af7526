"""Whether a transform of torch.func is active: grad, vmap, jvp, hessian and the like.

The hand-written derivatives of `limner.layers` are for ordinary autograd, to any order. Under a
transform the same layers use plain operations, which torch transforms by itself.
"""

from collections.abc import Callable

import torch
from torch.autograd import forward_ad

_transforms_active: Callable[[], bool] | None = getattr(
    torch._C, "_are_functorch_transforms_active", None
)


def transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is active.

    Both names below are private to torch. In a torch without them this is False, and torch raises
    its own error where a hand-written derivative meets a transform.
    """
    if torch.compiler.is_compiling():
        return False
    forward_mode = getattr(forward_ad, "_current_level", -1) >= 0
    return forward_mode or (_transforms_active is not None and _transforms_active())
