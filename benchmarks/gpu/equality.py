"""Bounds and gradients against those of float64 on the CPU, for the same noise."""

import torch

from limner.data.dataset import Dataset
from limner.models import LatentVariableModel, ModelConfig, build
from limner.models.draws import Draws
from limner.objectives import elbo


def equal(config: ModelConfig, dataset: Dataset, device: torch.device) -> dict[str, float]:
    """Relative differences of bounds and gradients."""
    torch.manual_seed(0)
    x = (dataset.train.levels[:32] > 127).double()
    reference = build(config, dataset.image_shape).double()
    reference.init_from_images(x)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    noise = [torch.randn(len(x), *shape).double() for shape in reference.latent_shapes]
    expected = _bound_and_gradient(reference, x, noise)
    found = {}
    for where in {torch.device("cpu"), device}:
        for dtype in (torch.float32, torch.float64):
            model = build(config, dataset.image_shape).to(where, dtype)
            model.load_state_dict(reference.state_dict())
            given = [each.to(where, dtype) for each in noise]
            result = _bound_and_gradient(model, x.to(where, dtype), given)
            for what, a, b in zip(("bound", "gradient"), result, expected, strict=True):
                key = f"{where.type} {str(dtype)[6:]} {what}"
                found[key] = ((a - b).norm() / b.norm()).item()
    return found


def _bound_and_gradient(
    model: LatentVariableModel, x: torch.Tensor, noise: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    model.train()
    bounds = elbo(model._run(x, Draws(None, None, noise), "closed_form", False))
    gradients = torch.autograd.grad(bounds.mean(), list(model.parameters()), allow_unused=True)
    flat = torch.cat([g.flatten() for g in gradients if g is not None])
    return bounds.detach().double().cpu(), flat.double().cpu()
