"""A bound, and the size of the file that images are compressed to: two codes for one number."""

import math
from typing import Any

from torch import Tensor

from limner.coding.codec import coded
from limner.coding.coder import require_coder
from limner.coding.container import sizes
from limner.coding.pixels import check_model
from limner.errors import InputError
from limner.evaluation.estimate import Estimate
from limner.models import LatentVariableModel
from limner.progress import Report


def check_coded(model: LatentVariableModel, count: int, there: int) -> None:
    """Refuse a number of images that cannot be compressed."""
    require_coder()
    check_model(model)
    if not 0 < count <= there:
        raise InputError(f"There are {there:,} images to compress; change --coded {count}.")


def coded_figures(
    model: LatentVariableModel, x: Tensor, elbo: Estimate, report: Report | None = None
) -> dict[str, Any]:
    """Nats per image of a file with `x`, the first images of those that `elbo` is of."""
    size = sizes(coded(model, x, report=report).data)
    bits = size.bits / size.images
    return {
        "num_images": size.images,
        "nats": bits * math.log(2),
        "minus_elbo": -elbo.per_image[: len(x)].double().mean().item(),
        "bits_per_dim": bits / x[0].numel(),
        "initial_bits": size.initial,
    }
