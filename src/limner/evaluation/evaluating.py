"""`limner.evaluate`: any model or run, on any images."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from numbers import Integral
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from limner.data import DataConfig, Dataset, Frozen, Split, suited
from limner.data import load as load_dataset
from limner.data.catalogue import other_images
from limner.device import Device, pick_device
from limner.errors import InputError
from limner.evaluation.evaluation import Evaluation
from limner.evaluation.likelihood import evaluate_model
from limner.models import LatentVariableModel
from limner.progress import progress_bar, warn
from limner.training.runs import Checkpoint, Run, WeightKind
from limner.training.seen import remembered
from limner.training.start import seen_before

Data = Dataset | DataConfig | str | Path | Tensor | np.ndarray[Any, Any] | None


def evaluate(
    model: LatentVariableModel | Run | str | Path,
    data: Data = None,
    num_samples: int = 100,
    *,
    split: Split = "test",
    num_images: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    per_step: bool = False,
    checkpoint: Checkpoint = "best",
    weights: WeightKind = "ema",
) -> Evaluation:
    """ELBO, importance-weighted bound, KL and bits per dimension; writes nothing.

    The numbers are those of `limner evaluate` with the same settings. A model is evaluated in
    evaluation mode; its mode, its device and the random state stay as they were.

    Args:
        model: a model, a run, the path of a run, or the name of a trained model.
        data: a dataset, of which `split` is used; its config, name or path; or images
            [N, C, H, W], floats in [0, 1] as the model takes them. If None, the run's own images.
        num_samples: K of the importance-weighted bound.
        num_images: evaluate only this many images, the first; all if None.
        seed: seed of the noise.
        device: `auto`, `cpu`, `cuda` or another device. If None, that of the model; `auto` for a
            run.
        per_step: also evaluate the ELBO of a recurrent model after each step.
        checkpoint: of a run, `best` by the validation bound, or `last`.
        weights: of a run, `ema` averaged over steps, or `raw`.

    Raises:
        InputError: images that the model cannot score, of another shape or none; a bound that is
            not finite; or no such run.
    """
    if isinstance(model, LatentVariableModel):
        subject, run = model, None
    else:
        run = _run(model)
        subject = run.model(checkpoint, weights)
    x = _images(subject, run, data, split, num_images)
    place = _place(device, subject, run)
    title = f"evaluating {subject.config.kind if run is None else run.name}"
    with _in_evaluation_mode(subject, place) as ready, progress_bar(title, len(x)) as report:
        return evaluate_model(ready, x, num_samples, seed, per_step=per_step, report=report)


def _run(model: Any) -> Run:
    if isinstance(model, Run):
        return model
    if isinstance(model, (str, Path)):
        return Run.open(model)
    raise InputError(
        f"Limner evaluates a model, a run, or a run's path or name, not {_kind(model)}; give one "
        "of these."
    )


def _images(
    model: LatentVariableModel, run: Run | None, data: Data, split: Split, num_images: int | None
) -> Tensor | Frozen:
    """The images to evaluate as the model sees them."""
    if isinstance(data, (Tensor, np.ndarray)):
        if split != "test":
            raise InputError(f"An array of images has no split {split!r}; leave out split.")
        return _as_given(model, data[: _count(num_images, len(data), "array")])
    dataset, shown = _dataset(model, run, data)
    images = dataset.split(split)
    count = _count(num_images, len(images), f"{split} split")
    if run is not None:
        note = None if shown is None else seen_before(run, shown)
        if note is None and split != "train":
            note = remembered(run, images.take(slice(count)))
        if note is not None:
            warn(note)
    x = Frozen(dataset, split, model.config.observation).first(count)
    dtype = next(model.parameters()).dtype
    return x if dtype == torch.float32 else x[:].to(dtype)


def _dataset(
    model: LatentVariableModel, run: Run | None, data: Dataset | DataConfig | str | Path | None
) -> tuple[Dataset, DataConfig | None]:
    """The dataset as `model` needs it, and its config if there is one."""
    observation, shape = model.config.observation, model.image_shape
    if data is None and run is None:
        raise InputError("A model has no images of its own; give evaluate its data.")
    if data is None:
        assert run is not None
        data = run.data
    elif isinstance(data, (str, Path)):
        own = DataConfig() if run is None else run.config.data
        data = other_images(own, shape, name=str(data))
    if isinstance(data, Dataset):
        dataset, config = suited(data, observation, None), None
    elif isinstance(data, DataConfig):
        dataset, config = suited(load_dataset(data), observation, data.binarization), data
    else:
        raise InputError(
            f"Limner cannot evaluate on {_kind(data)}; give a dataset (limner.data.from_arrays and "
            "from_dataset make one), a DataConfig, a name, or a tensor of images."
        )
    if dataset.image_shape != shape:
        raise InputError(
            f"The model takes images of {shape} (channels, height, width) and {dataset.name} has "
            f"{dataset.image_shape}; use images of its shape."
        )
    return dataset, config


def _as_given(model: LatentVariableModel, images: Tensor | np.ndarray[Any, Any]) -> Tensor:
    """Images given as an array, checked, in the type of the model's weights."""
    if isinstance(images, np.ndarray):
        try:
            images = torch.from_numpy(np.ascontiguousarray(images))
        except TypeError:
            raise InputError(
                f"An array of {images.dtype} cannot be images; give floats in [0, 1]."
            ) from None
    images = images.detach()
    if images.is_floating_point():
        images = images.to(next(model.parameters()).dtype)
    model.check_images(images)
    return images


def _count(wanted: int | None, there: int, where: str) -> int:
    """The number of images to evaluate."""
    if not there:
        raise InputError(f"The {where} has no images; give at least one.")
    if wanted is None:
        return there
    if not isinstance(wanted, Integral) or not 0 < wanted <= there:
        raise InputError(f"The {where} has {there} images; change num_images={wanted}.")
    return wanted


def _place(
    device: str | torch.device | None, model: LatentVariableModel, run: Run | None
) -> torch.device:
    if device is None and run is None:
        return next(model.parameters()).device
    if isinstance(device, torch.device):
        return device
    return pick_device(cast(Device, device or "auto"))


@contextmanager
def _in_evaluation_mode(
    model: LatentVariableModel, device: torch.device
) -> Iterator[LatentVariableModel]:
    """The model in evaluation mode on `device`: a copy if it is on another one."""
    if next(model.parameters()).device != device:
        yield deepcopy(model).to(device).eval()
        return
    modes = {module: module.training for module in model.modules()}
    try:
        yield model.eval()
    finally:
        for module, training in modes.items():
            module.training = training


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
