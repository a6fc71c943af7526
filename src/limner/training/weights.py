"""A model from its config and weights."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from limner.errors import InputError
from limner.models import LatentVariableModel, ModelConfig, build, outline
from limner.models.base import ImageShape
from limner.models.saved import not_finite
from limner.training.noise import seeded


def filled(
    config: ModelConfig, image_shape: ImageShape, state: Mapping[str, Tensor], where: Path
) -> LatentVariableModel:
    """The model of `config` with the weights in `state`, in evaluation mode.

    It has the precision of the weights. The random state stays as it is.

    Raises:
        InputError: the weights in `where` are of another model, or NaN or infinite.
    """
    known = outline(config, image_shape).to(_precision(state))
    current = known.current_names(state)
    if _form(known.state_dict()) != _form(current):
        raise InputError(f"The weights in {where} do not fit its config; restore the folder.")
    with seeded(0, compiled=False):
        model = build(config, image_shape).to(_precision(state))
    if bad := not_finite(current, model.state_dict()):
        raise InputError(
            f"{bad} in {where} has values that are NaN or infinite; use other weights, or train "
            "again with a lower learning rate."
        )
    model.load_state_dict(state)
    return model.eval()


def _precision(state: Mapping[str, Tensor]) -> torch.dtype:
    """float64 if all weights are, otherwise float32."""
    types = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    return torch.float64 if types == {torch.float64} else torch.float32


def _form(state: Mapping[str, Tensor]) -> dict[str, tuple]:
    """Names, shapes and types of tensors."""
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
