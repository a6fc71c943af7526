"""Trained models for use: from run folders, saved models, names, and the Hugging Face Hub."""

import os
from pathlib import Path

from limner import hub
from limner.device import Device, pick_device
from limner.errors import InputError
from limner.models import LatentVariableModel, config_from, kinds, saved
from limner.training.runs import Checkpoint, Run, WeightKind
from limner.training.weights import filled


def load(
    path_or_name: str | os.PathLike[str],
    checkpoint: Checkpoint = "best",
    weights: WeightKind = "ema",
    *,
    device: Device | None = None,
    revision: str | None = None,
) -> LatentVariableModel:
    """A trained model in evaluation mode.

    Args:
        path_or_name: a run folder, a folder of `model.save`, the name of a model that comes with
            Limner (`limner models`), or `hub:owner/name` for the Hugging Face Hub. An existing path
            wins over a name.
        checkpoint: of a run, `best` by the validation bound, or `last`.
        weights: of a run, `ema` averaged over steps, or `raw`.
        device: where to put the model; on the CPU if not given.
        revision: branch, tag or commit of a model of the Hub, which can also be written
            `hub:owner/name@revision`.

    Raises:
        InputError: there is no such model or no access to it, or its files are damaged, altered,
            too large, or have weights that are NaN or infinite.
    """
    text = os.fspath(path_or_name)
    folder = Path(text)
    if text.startswith(hub.PREFIX) and not os.path.exists(text):
        address = hub.Address.parse(text, revision)
        folder = hub.fetch(address)
        run = None if saved.is_saved(folder) else Run.downloaded(folder, address)
    elif revision is not None:
        raise InputError(f"Only models of the Hub (hub:owner/name) have a revision; {text} is not.")
    else:
        run = None if os.path.isdir(text) and saved.is_saved(folder) else Run.open(text)
    if run is not None:
        model = run.model(checkpoint, weights)
    else:
        model = _saved(folder, text, (checkpoint, weights))
    return model if device is None else model.to(pick_device(device))


def _saved(folder: Path, name: str, chosen: tuple[Checkpoint, WeightKind]) -> LatentVariableModel:
    """The model that was saved in a folder."""
    if chosen != ("best", "ema"):
        raise InputError(f"{name} is a saved model with one set of weights; ask for no other.")
    state, about = saved.read(folder)
    kind = about.model.get("kind")
    if isinstance(kind, str) and kind not in kinds():
        raise InputError(
            f"{name} is a model of kind {kind!r}, which is not registered here; import the module "
            "that registers it, or call limner.register with it and its config."
        )
    channels, height, width = about.image_shape
    return filled(config_from(about.model), (channels, height, width), state, folder)
