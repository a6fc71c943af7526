"""Whether a transform of torch.func is active: grad, vmap, jvp, hessian and the like.

The hand-written derivatives in `limner.layers` support autograd, to any order. Under a transform
the layers use plain operations, which torch can transform.
"""

from collections.abc import Callable

import torch
from torch.autograd import forward_ad

_transforms_active: Callable[[], bool] | None = getattr(
    torch._C, "_are_functorch_transforms_active", None
)


def transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is active.

    Two private names of torch are used. In a version without them the result is False, and torch
    raises its own error if a transform is applied to a hand-written derivative.
    """
    if torch.compiler.is_compiling():
        return False
    forward_mode = getattr(forward_ad, "_current_level", -1) >= 0
    return forward_mode or (_transforms_active is not None and _transforms_active())
