"""Run folders: what a training leaves behind, and how to open it again.

config.json             reproduces the run
metrics.jsonl           one line per validation
checkpoints/            training.safetensors (to resume), best and last (raw and averaged weights)
model.safetensors       the weights to use: best, averaged
made.json               the code and the machines that trained it
training_images.safetensors   hashes of the training images
images.npz              the images, if they were given in memory
results.json            the evaluation
figures/
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, get_args

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from limner import hub
from limner.config import RunConfig
from limner.data import DataConfig, Dataset, suited
from limner.data import load as load_dataset
from limner.errors import InputError, nearest, unknown
from limner.models import LatentVariableModel, RecurrentModel
from limner.models.saved import is_saved
from limner.progress import warn
from limner.settings import MAX_JSON, parse_json, read_bytes, read_json
from limner.storage import (
    WEIGHTS,
    first_sound,
    load_tensors,
    read_document,
    save_tensors,
    sweep,
    unwritable,
    writable,
    write_atomically,
)
from limner.training import named
from limner.training.made import Maker
from limner.training.named import Checkpoint, WeightKind
from limner.training.records import Epoch, Results, check_values, checked, image_shape_of
from limner.training.weights import filled

T = TypeVar("T")
MAX_METRICS = 2**27
"""Bytes of metrics.jsonl."""
IMAGES = "images.npz"
"""Images that were given in memory, not by name."""
_MAKERS = TypeAdapter(list[Maker])


class Run:
    """One run folder.

    `out` is the folder that commands write to: the run folder itself, except for the models that
    come with Limner. `data` are the images that commands use: those of its training, or others.
    """

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        out: Path | None = None,
        data: DataConfig | None = None,
        name: str | None = None,
    ):
        self.path, self.config = path, config
        self.out, self.data = out or path, data or own_images(path, config.data)
        self.name = name or path.resolve().name

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.config.model.kind})"

    @property
    def own_data(self) -> DataConfig:
        """The images of its training."""
        return own_images(self.path, self.config.data)

    @property
    def shows_its_own(self) -> bool:
        """Whether the images to use are those of its training, in any folder."""
        return self.data.with_(root=None) == self.config.data.with_(root=None)

    @property
    def training_states(self) -> tuple[Path, Path]:
        """The state to resume from, and the one before."""
        folder = self.path / "checkpoints"
        return folder / "training.safetensors", folder / "training.previous.safetensors"

    @property
    def exported(self) -> Path:
        return self.path / WEIGHTS

    def weights(self, checkpoint: Checkpoint) -> list[Path]:
        """The file of a checkpoint, then the files that may replace it."""
        own = self.path / "checkpoints" / f"{checkpoint}.safetensors"
        return [own, self.exported] if checkpoint == "best" else [own]

    @classmethod
    def open(
        cls, path_or_name: str | Path, revision: str | None = None, online: bool = True
    ) -> "Run":
        """The run in a folder, or a trained model by its name; an existing path wins.

        Args:
            path_or_name: a folder, a name, or `hub:owner/name` for one of the Hugging Face Hub.
            revision: a branch, tag or commit, for a model of the Hub.
            online: whether a model of the Hub may be downloaded.

        Raises:
            InputError: no such folder or name, not a run, or damaged.
        """
        name, known = str(path_or_name), named.names()
        if name in known and not Path(name).exists():
            folder = named.FOLDER / name
            return cls(folder, _config_of(folder), named.OUTPUTS / name)
        if name.startswith(hub.PREFIX) and not os.path.exists(name):
            address = hub.Address.parse(name, revision)
            return cls.downloaded(hub.fetch(address, online), address)
        return cls.at(Path(path_or_name))

    @classmethod
    def downloaded(cls, folder: Path, address: hub.Address) -> "Run":
        """The run of the Hub whose files are in `folder`.

        Raises:
            InputError: not a run, damaged, or its config is not that of its weights.
        """
        run = cls._in(folder)
        if RunConfig.read(folder / "config.json") != run.config:
            raise InputError(f"The config.json of {address} was altered; ask its owner.")
        data = run.config.data.with_(root=None)  # a folder of another machine
        name = address.name.rpartition("/")[2]
        return cls(folder, run.config, hub.OUTPUTS / address.name, data, name)

    @classmethod
    def at(cls, path: Path) -> "Run":
        """The run in a folder.

        Raises:
            InputError: no such folder, not a run, or damaged.
        """
        with contextlib.suppress(OSError):  # a name longer than any file's
            if path.is_dir():
                return cls._in(path)
        guess = _nearest(path)
        raise InputError(
            f"There is no run folder and no trained model {path}; {guess}limner models lists the "
            "trained models, and limner train makes a run."
        )

    def on(self, data: DataConfig) -> "Run":
        """The same run with its images elsewhere, or with other ones for its model."""
        return Run(self.path, self.config, self.out, data, self.name)

    def to(self, out: Path | None) -> "Run":
        """The same run, with `out` as the folder that commands write to, if it is given."""
        return self if out is None else Run(self.path, self.config, out, self.data, self.name)

    @classmethod
    def _in(cls, path: Path) -> "Run":
        if is_saved(path):
            raise InputError(
                f"{path} is a saved model, which knows no images; load it with limner.load, or "
                "name a run."
            )
        if not (path / "config.json").is_file():
            raise InputError(f"{path} is not a run folder: it holds no config.json.")
        return cls(path, _config_of(path))

    @classmethod
    def create(cls, path: Path, config: RunConfig, overwrite: bool = False) -> "Run":
        """A new run folder holding its config.

        Raises:
            InputError: the folder is not empty and `overwrite` is not given (or it is not a run, so
                Limner must not delete it), or it cannot be written.
        """
        run = cls(path, config)
        with run.claim(overwrite):
            return run

    @contextlib.contextmanager
    def claim(self, overwrite: bool = False) -> Iterator[None]:
        """Lock the folder for a new training, empty it and write its config.

        Raises:
            InputError: as `create`, or another training has locked the folder.
        """
        self._check_free(overwrite)
        with _locked(self.path):
            self._check_free(overwrite)  # another training may have come first
            self._set_up(empty=True)
            yield

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run for training; a second training is refused with an InputError."""
        with _locked(self.path):
            self._set_up()
            yield

    def _check_free(self, overwrite: bool) -> None:
        try:
            if not self.path.exists() or all(map(_leftover, self.path.iterdir())):
                return
        except OSError as error:
            raise unwritable(self.path, error) from None
        if not (self.path / "config.json").is_file() or not self._is_limners():
            raise InputError(f"{self.path} exists and is not a run; choose another --out.")
        if not overwrite:
            raise InputError(
                f"{self.path} already holds a run; continue it with --resume, replace it with "
                "--overwrite, or choose another --out."
            )

    def _is_limners(self) -> bool:
        """Whether the folder was written by a training, even if its config is damaged."""
        if (self.path / "checkpoints").is_dir() or (self.path / "made.json").is_file():
            return True
        with contextlib.suppress(InputError):
            RunConfig.read(self.path / "config.json")
            return True
        return False

    def _set_up(self, empty: bool = False) -> None:
        """Write the config, make a folder for checkpoints, remove half-written files."""
        try:
            for child in self.path.iterdir() if empty else ():
                if child.name not in (".lock", "config.json"):
                    folder = child.is_dir() and not child.is_symlink()
                    shutil.rmtree(child) if folder else child.unlink()
            sweep(self.path)
            write_atomically(self.path / "config.json", self.config.to_json())
            (self.path / "checkpoints").mkdir(exist_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from None

    def model(
        self, checkpoint: Checkpoint = "best", weights: WeightKind = "ema"
    ) -> LatentVariableModel:
        """The trained model, in evaluation mode.

        Raises:
            InputError: not trained yet, or the weights are damaged or of another model.
        """
        for what, name, known in (
            ("checkpoint", checkpoint, get_args(Checkpoint)),
            ("kind of weights", weights, get_args(WeightKind)),
        ):
            if name not in known:
                raise unknown(what, name, known)
        path, (tensors, document) = self._sound(checkpoint, load_tensors)
        chosen = weights if any(name.startswith("ema.") for name in tensors) else "raw"
        if not any(name.startswith(f"{chosen}.") for name in tensors):
            raise InputError(f"{path} holds averaged weights only; ask for those.")
        shape = image_shape_of(document, path)
        state = {
            name.removeprefix(f"{chosen}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{chosen}.")
        }
        model = filled(self.config.model, shape, state, self.path)
        steps = document.get("num_steps")  # if the training ended before the model had grown
        if isinstance(model, RecurrentModel) and isinstance(steps, int) and steps > 0:
            model.num_steps = min(steps, model.num_steps)
        return model

    def validation_elbo(self, checkpoint: Checkpoint = "best") -> float | None:
        """The validation ELBO of a checkpoint, with which reports distinguish evaluations."""
        return self._sound(checkpoint, read_document)[1].get("validation_elbo")

    def _sound(self, checkpoint: Checkpoint, read: Callable[[Path], T]) -> tuple[Path, T]:
        """The file that holds the weights of a checkpoint, and the result of `read` on it."""
        sound = first_sound(self.weights(checkpoint), read, warn)
        if sound is None and self.exported.is_file():
            raise InputError(f"{self.name} holds its best weights only; ask for those.")
        if sound is None and any(path.is_file() for path in self.training_states):
            raise InputError(
                f"{self.path} was stopped before its first validation, so it has no weights to use "
                f"yet; continue it with limner train --resume --out {self.path}."
            )
        if sound is None:
            raise InputError(f"There are no weights in {self.path}; train the run first.")
        return sound

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
        best = self.path / "checkpoints" / "best.safetensors"
        for kind in ("ema.", "raw."):
            tensors, document = load_tensors(best, kind)
            if tensors:
                save_tensors(self.exported, tensors, document)
                break
        return self.exported

    def dataset(self, data: DataConfig | None = None) -> Dataset:
        """The dataset of the run, or another one for its model.

        Raises:
            InputError: the images have another shape than the model's.
        """
        data = data or self.data
        observation = self.config.model.observation
        dataset = suited(load_dataset(data), observation, data.binarization)
        if dataset.image_shape != self.image_shape:
            raise InputError(
                f"The model of {self.path} was trained on images of {self.image_shape} (channels, "
                f"height, width) and {dataset.name} has {dataset.image_shape}; use images of its "
                "shape."
            )
        return dataset

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the model's images."""
        path, document = self._sound("best", read_document)
        return image_shape_of(document, path)

    def metrics(self) -> list[dict]:
        """One entry per validation; a last line without a line break is still being written."""
        path = self.path / "metrics.jsonl"
        lines = read_bytes(path, MAX_METRICS).split(b"\n")[:-1] if path.is_file() else []
        advice = "remove its broken line"
        return [checked(parse_json(line, path), Epoch, path, advice) for line in lines]

    def results(self) -> dict | None:
        """The evaluation, if there was one."""
        path = self._newest("results.json")
        if not path.is_file():
            return None
        return checked(read_json(path), Results, path, f"run limner evaluate {self.path} again")

    def _newest(self, name: str) -> Path:
        """A file of an evaluation: in `out` if it exists there, otherwise in the run folder."""
        made = self.out / name
        return made if made.is_file() else self.path / name

    def place(self, name: str) -> Path:
        """The path to write the file `name` of the run to; its folder is made.

        Raises:
            InputError: the folder cannot be written to.
        """
        return writable(self.out / name)

    def made(self) -> list[Maker]:
        """Code and machine that trained the run; several if it was resumed with another."""
        path = self.path / "made.json"
        with contextlib.suppress(InputError, ValidationError):
            if path.is_file():
                return _MAKERS.validate_json(read_bytes(path, MAX_JSON))
        return []

    def sign(self, maker: Maker) -> None:
        """Record the code and machine that train the run from here on."""
        makers = dict.fromkeys([*self.made(), maker])
        content = json.dumps([one.model_dump() for one in makers], indent=2)
        write_atomically(self.path / "made.json", content + "\n")

    def per_image(self) -> dict[str, Tensor]:
        """The evaluation's values for each image.

        Raises:
            InputError: the run was not evaluated.
        """
        path = self._newest("per_image.safetensors")
        if not path.is_file():
            raise InputError(f"{path} is missing; run limner evaluate first.")
        values = load_tensors(path)[0]
        check_values(values, (self.results() or {}).get("num_images", 0), path)
        return values


def _nearest(path: Path) -> str:
    """A question about the run or trained model whose name is nearest to a missing one."""
    try:
        runs = [str(found.parent) for found in path.parent.glob("*/config.json")]
    except OSError:
        runs = []
    return nearest(str(path), [*runs, *named.names()])


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.mkdir(parents=True, exist_ok=True)
        held = FileLock(path / ".lock", thread_local=False).acquire(timeout=0)
    except Timeout:
        raise InputError(f"Another training holds {path}; wait for it or stop it.") from None
    except OSError as error:
        raise unwritable(path, error) from None
    with held:
        yield


def own_images(path: Path, data: DataConfig) -> DataConfig:
    """The images of the run in `path`: those that it keeps are found there, wherever it is now."""
    return data.with_(root=path) if data.name == IMAGES and (path / IMAGES).is_file() else data


def _leftover(path: Path) -> bool:
    """Whether the file may be left by a training that was killed before its first step."""
    return path.name == ".lock" or path.match(".*.tmp")


def _config_of(path: Path) -> RunConfig:
    """The config of the run in `path`: that of its checkpoints if config.json differs.

    Checkpoints have a checksum and config.json has none. Only the folder of the images may be
    changed there.
    """
    file, known = path / "config.json", _known_config(path)
    if known is None:
        return RunConfig.read(file)
    with contextlib.suppress(InputError):
        found = RunConfig.read(file)
        if found == known.with_(data=known.data.with_(root=found.data.root)):
            return found
    warn(
        f"{file} is damaged or was changed; the config in the checkpoints is used (limner train "
        "--resume changes it by flags)."
    )
    return known


def _known_config(path: Path) -> RunConfig | None:
    """The config that is stored with the weights in `path`."""
    files = [path / WEIGHTS, *sorted(path.glob("checkpoints/*.safetensors"))]
    with contextlib.suppress(InputError):
        sound = first_sound(files, load_tensors, lambda _: None)
        if sound is not None and "config" in sound[1][1]:
            return RunConfig.parse(sound[1][1]["config"])
    return None
