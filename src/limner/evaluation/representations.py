"""Images as vectors: their posterior means, or the final state of the decoder."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from limner.data import Frozen
from limner.data.mapped import forget
from limner.errors import InputError
from limner.models import Inference, LatentVariableModel
from limner.objectives import rows_that_fit
from limner.progress import Report


@torch.no_grad()
def encode_images(
    model: LatentVariableModel,
    x: Float[Tensor, "images channels height width"] | Frozen,
    groups: Sequence[int] = (),
    features: bool = False,
    report: Report | None = None,
) -> Float[Tensor, "images dims"]:
    """Posterior means of images, concatenated over groups, without noise.

    A group's mean is that of q(z_t | means of the groups before, x), not an average over draws.

    Args:
        groups: numbers of the groups to keep, from 1, as in `group_names`; all if empty.
        features: return the decoder's final state instead (h_dec_T of DRAW).
        report: called after each batch with the number of images done.

    Raises:
        InputError: a group that does not exist, or `groups` together with `features`.
    """
    check_groups(model, groups, features)
    device = next(model.parameters()).device
    batch = min(1000, rows_that_fit(model, trace=True))
    encoded: list[Tensor] = []
    for first in range(0, len(x), batch):
        part = x[first : first + batch].to(device)
        inference = model.infer(part, trace=True, latents="mean")
        encoded.append(_vector(inference, groups, features).cpu())
        if isinstance(x, Frozen):
            forget(x.levels)
        if report is not None:
            report(first + len(part), "")
    return torch.cat(encoded)


def check_groups(model: LatentVariableModel, groups: Sequence[int], features: bool) -> None:
    """Raise `InputError` for a group that does not exist, or for groups with `features`."""
    if groups and features:
        raise InputError("The decoder's final state has no groups; give --groups or --features.")
    for group in groups:
        if not 1 <= group <= model.num_groups:
            raise InputError(
                f"There is no latent group {group}; this model has groups 1 to {model.num_groups} "
                f"({model.group_names[0]} to {model.group_names[-1]})."
            )


def _vector(
    inference: Inference, groups: Sequence[int], features: bool
) -> Float[Tensor, "batch dims"]:
    latents = inference.latents
    if inference.features is None or latents is None:
        raise RuntimeError("A traced inference must have latents and features.")
    if features:
        return inference.features
    chosen = [group - 1 for group in groups] or range(len(latents))
    return torch.cat([latents[group].z.flatten(1) for group in chosen], dim=1)
