"""The bounds of a model on images, measured as in the papers, the same at every call.

Images are evaluated in blocks. The noise of a block depends only on the seed and the number of its
first image, and every importance sample has its own noise. So results depend neither on how many
samples fit into memory nor on whether the evaluation was interrupted.
"""

import math
import time
from numbers import Integral
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from limner.data.mapped import forget
from limner.data.pixels import Frozen, mixed_seed
from limner.device import noise_source
from limner.errors import InputError
from limner.evaluation.evaluation import Evaluation, Measured
from limner.evaluation.partial import Partial, fingerprint, hash_of
from limner.evaluation.units import count_active, unit_sums
from limner.models import Inference, LatentVariableModel, RecurrentModel
from limner.objectives import elbo, importance_weighted_bound
from limner.progress import Report

BLOCK = 50
"""Images that are evaluated together; another number gives other noise."""
UNIT_IMAGES = 1000
"""Images, in whole blocks, whose posterior means decide which units are active."""


@torch.no_grad()
def evaluate_model(
    model: LatentVariableModel,
    x: Float[Tensor, "images channels height width"] | Frozen,
    num_samples: int = 100,
    seed: int = 0,
    *,
    per_step: bool = False,
    partial_folder: Path | None = None,
    report: Report | None = None,
    block_size: int = BLOCK,
) -> Evaluation:
    """ELBO, importance-weighted bound, KL and active units of `model` on frozen images `x`.

    The ELBO uses one sample of z per image and the closed-form KL; the bound uses `num_samples`
    other samples.

    Args:
        num_samples: K of the importance-weighted bound.
        per_step: also evaluate the ELBO after each step of a DRAW; see `elbo_per_step`.
        partial_folder: an existing folder where an interrupted evaluation is saved. The next
            evaluation of the same model, images and settings continues it.
        report: called after each block with the number of images done and the bounds so far.
        block_size: number of images that are evaluated together.

    Raises:
        RuntimeError: the model is in training mode.
        InputError: no images, no samples, steps of a model that has none, or a bound
            that is not finite.
    """
    if model.training:
        raise RuntimeError("The model is in training mode; call model.eval() first.")
    if len(x) < 1:
        raise InputError(f"An evaluation needs at least one image; got {len(x)}.")
    if not isinstance(num_samples, Integral) or num_samples < 1:
        raise InputError(
            "The importance-weighted bound needs a whole number of samples, at least one; got "
            f"{num_samples}."
        )
    if per_step and not isinstance(model, RecurrentModel):
        raise InputError("This model has no steps; leave out --per-step (per_step).")
    settings = {"num_samples": num_samples, "seed": seed, "per_step": per_step, "block": block_size}
    images = hash_of(x)
    partial = Partial(partial_folder, fingerprint(model, images, settings))
    values, seconds = partial.load()
    started = time.monotonic() - seconds
    try:
        for first in range(len(values.get("elbo", ())), len(x), block_size):
            block = x[first : first + block_size]
            found = _block_values(model, block, num_samples, seed, first, per_step)
            values = _joined(values, found)
            if isinstance(x, Frozen):
                forget(x.levels)
            partial.save_if_due(values, time.monotonic() - started)
            if report is not None:
                report(len(values["elbo"]), _figures(values, num_samples))
    except BaseException:
        partial.save(values, time.monotonic() - started)
        raise
    partial.remove()
    sums = values.pop("unit_sums")
    counted = min(len(x), math.ceil(UNIT_IMAGES / block_size) * block_size)
    active, units = count_active(sums, counted, model)
    return Evaluation(
        values,
        active,
        units,
        num_samples,
        seed,
        time.monotonic() - started,
        Measured.of(model),
        images,
    )


def set_num_steps(model: LatentVariableModel, num_steps: int) -> LatentVariableModel:
    """The model, a recurrent one, with another number of steps than it was trained with.

    Raises:
        InputError: a model without steps, or fewer than one step.
    """
    if not isinstance(model, RecurrentModel):
        raise InputError("This model has no number of steps; leave out --num-steps.")
    if num_steps < 1:
        raise InputError(f"A recurrent model needs at least one step; got --num-steps {num_steps}.")
    model.num_steps = num_steps
    return model


def elbo_per_step(
    model: LatentVariableModel, x: Tensor, inference: Inference
) -> Float[Tensor, "batch steps"]:
    """log p(x | c_t) - sum_{s <= t} KL_s for t = 1..T: the ELBO of the same DRAW with t steps.

    A step does not depend on later steps, so the first t steps of a traced inference are an
    inference with t steps.
    """
    canvases = inference.canvases if inference.canvases is not None else ()
    log_likelihood = [model.observe(canvas).log_prob(x) for canvas in canvases]
    return torch.stack(log_likelihood, dim=1) - inference.kl.cumsum(1)


def _block_values(
    model: LatentVariableModel, x: Tensor, num_samples: int, seed: int, first: int, per_step: bool
) -> dict[str, Tensor]:
    """The values of one block, which starts at image number `first`."""
    device = next(model.parameters()).device
    x = x.to(device)

    def noise(purpose: str) -> torch.Generator:
        return noise_source(device).manual_seed(mixed_seed(purpose, seed, first))

    inference = model.infer(x, noise("elbo"), trace=per_step)
    values = {
        "elbo": elbo(inference),
        "log_likelihood": inference.log_likelihood,
        "kl": inference.kl,
        "iw_bound": importance_weighted_bound(model, x, num_samples, None, noise("iw_bound")),
    }
    if first < UNIT_IMAGES:
        values["unit_sums"] = unit_sums(model, x, noise("units"))
    if per_step:
        values["elbo_per_step"] = elbo_per_step(model, x, inference)
    finite = (values["elbo"] + values["iw_bound"]).isfinite()
    if not finite.all():
        image = first + int(finite.int().argmin())
        raise InputError(
            f"-ELBO of image {image} is not finite; evaluate another checkpoint or train again "
            "with a lower learning rate."
        )
    return {name: value.cpu() for name, value in values.items()}


def _joined(values: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values of the images so far and of the next block: sums are added, the rest concatenated."""
    if not values:
        return found
    joined = {
        name: values[name] + new if name == "unit_sums" else torch.cat([values[name], new])
        for name, new in found.items()
    }
    return values | joined


def _figures(values: dict[str, Tensor], num_samples: int) -> str:
    bound, weighted = values["elbo"].mean().item(), values["iw_bound"].mean().item()
    return f"-ELBO {-bound:.2f}, -L_{num_samples} {-weighted:.2f}"
