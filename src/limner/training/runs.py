"""Run folders: what a training leaves behind, and how to open it again.

config.json             reproduces the run
metrics.jsonl           one line a validated epoch
checkpoints/            training.safetensors (to resume), best and last (raw and averaged weights)
model.safetensors       the weights to use: best, averaged
results.json            the evaluation
figures/
"""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from torch import Tensor

from limner.config import RunConfig
from limner.data import DataConfig, Dataset
from limner.data import load as load_dataset
from limner.errors import InputError
from limner.models import LatentVariableModel, build
from limner.training.storage import load_tensors, read_document, save_tensors, write_atomically

Checkpoint = Literal["best", "last"]
WeightKind = Literal["ema", "raw"]


class Run:
    """One run folder."""

    def __init__(self, path: Path, config: RunConfig):
        self.path, self.config = path, config

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def training_states(self) -> tuple[Path, Path]:
        """The state to resume from, and the one before."""
        folder = self.path / "checkpoints"
        return folder / "training.safetensors", folder / "training.previous.safetensors"

    @classmethod
    def open(cls, path_or_name: str | Path) -> "Run":
        """The run in a folder.

        Raises:
            InputError: no such folder, not a run, or damaged.
        """
        path = Path(path_or_name)
        if not path.is_dir():
            raise InputError(f"There is no run folder {path}; train one with limner train.")
        if not (path / "config.json").is_file():
            raise InputError(f"{path} is not a run folder: it holds no config.json.")
        return cls(path, RunConfig.read(path / "config.json"))

    @classmethod
    def create(cls, path: Path, config: RunConfig, overwrite: bool = False) -> "Run":
        """A new run folder holding its config.

        Raises:
            InputError: the folder is not empty and `overwrite` is not given (or it is no run, and
                so not Limner's to delete), or it cannot be written.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            is_run = (path / "config.json").is_file()
            if not is_run:
                raise InputError(f"{path} exists and is not a run; choose another --out.")
            if not overwrite:
                raise InputError(
                    f"{path} already holds a run; continue it with --resume, replace it with "
                    "--overwrite, or choose another --out."
                )
        try:
            path.mkdir(parents=True, exist_ok=True)
            with _locked(path):
                for child in path.iterdir():
                    if child.name != ".lock":
                        shutil.rmtree(child) if child.is_dir() else child.unlink()
                (path / "checkpoints").mkdir()
                write_atomically(path / "config.json", config.to_json())
        except OSError as error:
            raise InputError(
                f"Cannot write to {path}: {error.strerror}; choose another --out."
            ) from None
        return cls(path, config)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the run for training; a second training is refused with an InputError."""
        return _locked(self.path)

    def model(
        self, checkpoint: Checkpoint = "best", weights: WeightKind = "ema"
    ) -> LatentVariableModel:
        """The trained model, in evaluation mode.

        Raises:
            InputError: not trained yet, or the weights are damaged or of another model.
        """
        tensors, document = load_tensors(self._weights(checkpoint))
        chosen = weights if any(name.startswith("ema.") for name in tensors) else "raw"
        model = build(self.config.model, tuple(document["image_shape"]))
        state = {
            name.removeprefix(f"{chosen}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{chosen}.")
        }
        try:
            model.load_state_dict(state)
        except RuntimeError:
            raise InputError(
                f"The weights in {self.path} do not fit its config.json; restore the folder."
            ) from None
        return model.eval()

    def _weights(self, checkpoint: Checkpoint) -> Path:
        path = self.path / "checkpoints" / f"{checkpoint}.safetensors"
        exported = self.path / "model.safetensors"
        return exported if checkpoint == "best" and not path.is_file() else path

    def save_weights(
        self, name: str, states: dict[WeightKind, dict[str, Tensor]], document: dict
    ) -> None:
        """Write raw and averaged weights to checkpoints/`name`.safetensors."""
        tensors = {
            f"{kind}.{key}": tensor
            for kind, state in states.items()
            for key, tensor in state.items()
        }
        save_tensors(self.path / "checkpoints" / f"{name}.safetensors", tensors, document)

    def export(self) -> Path:
        """Write model.safetensors, the best averaged weights."""
        tensors, document = load_tensors(self.path / "checkpoints" / "best.safetensors")
        kind = "ema." if any(name.startswith("ema.") for name in tensors) else "raw."
        kept = {name: tensor for name, tensor in tensors.items() if name.startswith(kind)}
        save_tensors(self.path / "model.safetensors", kept, document)
        return self.path / "model.safetensors"

    def dataset(self, data: DataConfig | None = None) -> Dataset:
        """The dataset that the run was trained on, or another one for its model.

        Raises:
            InputError: the images have another shape than the model's.
        """
        dataset = load_dataset(data or self.config.data)
        shape = tuple(read_document(self._weights("best"))["image_shape"])
        if dataset.image_shape != shape:
            raise InputError(
                f"The model of {self.path} was trained on images of {shape} (channels, height, "
                f"width) and {dataset.name} has {dataset.image_shape}; use images of its shape."
            )
        return dataset

    def metrics(self) -> list[dict]:
        """One entry a validated epoch."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        try:
            return [json.loads(line) for line in lines]
        except json.JSONDecodeError:
            raise InputError(f"{path} is damaged; remove its broken line.") from None

    def results(self) -> dict | None:
        """The evaluation, if there was one."""
        path = self.path / "results.json"
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        except json.JSONDecodeError:
            raise InputError(f"{path} is damaged; run limner evaluate {self.path} again.") from None

    def per_image(self) -> dict[str, Tensor]:
        """The evaluation's values of single images.

        Raises:
            InputError: the run was not evaluated.
        """
        return load_tensors(self.path / "per_image.safetensors")[0]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"Another training holds {path}; wait for it or stop it.") from None
        yield


def load(
    path_or_name: str | Path, checkpoint: Checkpoint = "best", weights: WeightKind = "ema"
) -> LatentVariableModel:
    """A trained model in evaluation mode, from a run folder.

    Args:
        checkpoint: `best` by the validation bound, or `last`.
        weights: `ema` averaged over steps, or `raw`.

    Raises:
        InputError: there is no such run, or it is damaged.
    """
    return Run.open(path_or_name).model(checkpoint, weights)
