"""`limner.fit`: train a model on a dataset, from Python.

    model or config or recipe ─► RunConfig ─► the loop of limner.training.trainer ─► Fit

The settings, their names and their limits are those of `limner.RunConfig`.
"""

import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import torch

from limner.config import ObjectiveConfig, OptimizerConfig, RunConfig
from limner.data import DataConfig, Dataset
from limner.data import load as load_dataset
from limner.data.kept import keep, kept_as
from limner.device import Device
from limner.errors import InputError, Stopped, enough_memory, in_python
from limner.models import LatentVariableModel, ModelConfig, class_of
from limner.progress import once, warn
from limner.training import launch
from limner.training.asked import asked
from limner.training.callback import Callback
from limner.training.divergence import remarks
from limner.training.history import History
from limner.training.optimizer import OwnOptimizer, own_optimizer
from limner.training.processes import processes
from limner.training.runs import IMAGES, Run
from limner.training.start import initial_model, start_images
from limner.training.trainer import Extras, Trainer

if TYPE_CHECKING:
    from limner.evaluation import Evaluation


_lending = threading.Lock()
_lent_now: set[int] = set()
"""Models in training, by id."""


class FitSettings(TypedDict, total=False):
    """The settings of `RunConfig` that `fit` takes beside those in its signature."""

    objective: ObjectiveConfig | Mapping[str, Any]
    start_from: str | Path | None
    growth: Sequence[tuple[float, int]]
    batch_size: int
    ema_decay: float
    validate_every: int
    checkpoint_minutes: float
    evaluate_samples: int
    compile: Literal["auto", "always", "never", "cuda-graph"]
    precision: Literal["float32", "tf32", "bfloat16"]
    trackers: tuple[Literal["tensorboard", "wandb"], ...]


@dataclass(frozen=True)
class Fit:
    """The result of `limner.fit`."""

    model: LatentVariableModel
    """With the best weights by validation -ELBO, averaged if training averages; in evaluation
    mode."""
    history: History
    """One record for each validation."""
    run: Run | None
    """The run folder; None if nothing was written."""
    data: Dataset
    stopped: bool
    """Whether Ctrl-C ended the training, or a kernel's Interrupt."""

    def evaluate(self, num_samples: int = 100, **options: Any) -> "Evaluation":
        """`limner.evaluate` of the model on the test images of its data."""
        from limner.evaluation import evaluate

        return evaluate(self.model, self.data, num_samples, **options)

    def _repr_html_(self) -> str:
        return self.history._repr_html_()


def fit(
    model: LatentVariableModel | ModelConfig | RunConfig | str,
    data: Dataset | DataConfig | str,
    *,
    out: str | Path | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    callback: Callback | None = None,
    every: int | None = None,
    optimizer: OwnOptimizer | OptimizerConfig | Mapping[str, Any] | None = None,
    device: Device = "auto",
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    **settings: Unpack[FitSettings],
) -> Fit:
    """Train a model on images, and return it with its history.

    Settings that are left open follow the images, as in `limner train`: the budget, the warm-up,
    the number of epochs between validations, and for a config also the observation. Random state,
    autograd mode and signal handlers of the caller stay as they are.

    Args:
        model: a model, which is trained in place from its present weights and comes back on the
            device that it was on (a new model's output bias, all zeros, is first set from the mean
            training image); or a model config, a run config, a kind or the name of a recipe.
        data: a dataset, its config or its name.
        out: a run folder to write, which can be resumed and which all commands take. Images that
            were given in memory are kept there. None writes nothing.
        epochs: passes over the training images.
        minutes: training time, instead of epochs or as well.
        callback: called with a `TrainingState` after each validation.
        every: also call it after every `every` steps.
        optimizer: settings of Limner's optimizer by name, such as `{"learning_rate": 1e-3}`; or a
            torch optimizer of the model's parameters, or a function that makes one of them. The
            learning rates of your own optimizer stay as they are: no warm-up, no schedule.
            Gradients are clipped to a norm of 10.
        device: where to train: auto, cpu, cuda, ... A run config keeps its own device and seed
            unless others than these defaults are given.
        seed: decides initialisation, the order of images and all noise.
        resume: continue the run in `out`.
        overwrite: replace the run in `out`.
        settings: the other settings of `RunConfig` by name. A mapping changes single settings.

    Raises:
        InputError: a setting, the images or the folder cannot be used. Nothing was written then.
        Stopped: by SIGTERM. After Ctrl-C or a kernel's Interrupt `fit` returns, and `stopped` is
            true; a second one raises KeyboardInterrupt at once.
    """
    with in_python(), once(), launch.own_mode():
        dataset = data if isinstance(data, Dataset) else _loaded(data)
        own = None
        if not (optimizer is None or isinstance(optimizer, OptimizerConfig | Mapping)):
            own, optimizer = optimizer, None
        budget = {"epochs": epochs, "minutes": minutes}
        changes = budget | {"optimizer": optimizer, "device": device, "seed": seed} | settings
        config, given = asked(model, dataset, changes)
        instance = model if isinstance(model, LatentVariableModel) else None
        _check(config, instance, own, out, (resume, overwrite), callback, every)

        def extras(trained: LatentVariableModel) -> Extras:
            return Extras(None, callback, every, own and own_optimizer(own, trained))

        folder = None if out is None else Path(out).expanduser()
        resumes = given if resume else None
        with _trainer(config, dataset, instance, folder, resumes, overwrite, extras) as trainer:
            stopped = _fitted(trainer)
        for sentence in remarks(trainer.config, trainer.history, trainer.dataset):
            warn(sentence)
    return Fit(trainer.model, trainer.history, trainer.run, trainer.dataset, stopped)


def _loaded(data: object) -> Dataset:
    """The dataset of a config or a name."""
    if isinstance(data, str | Path):
        data = DataConfig(name=str(data))
    if not isinstance(data, DataConfig):
        raise InputError(
            f"fit takes a dataset of Limner, its config or its name as data; got "
            f"{type(data).__name__}, so pass limner.data.from_arrays(images) for an array or a "
            "tensor, or limner.data.from_dataset(dataset) for a dataset of torch or Hugging Face."
        )
    return load_dataset(data)


def _check(
    config: RunConfig,
    model: LatentVariableModel | None,
    optimizer: OwnOptimizer | None,
    out: str | Path | None,
    of_a_folder: tuple[bool, bool],
    callback: Callback | None,
    every: int | None,
) -> None:
    """Refuse what cannot be called, and what contradicts itself."""
    makes = optimizer is None or callable(optimizer) or isinstance(optimizer, torch.optim.Optimizer)
    if not makes or isinstance(optimizer, str):
        raise InputError(
            'optimizer takes settings such as {"name": "adamw"}, a torch optimizer, or a function '
            f"that makes one; got {optimizer!r:.80}."
        )
    if callback is not None and not callable(callback):
        raise InputError(f"callback is a function of a TrainingState; got {callback!r:.80}.")
    if every is not None and callback is None:
        raise InputError("every has no meaning without a callback; leave it out, or give one.")
    if every is not None and every < 1:
        raise InputError(f"every is a number of steps, at least 1; got {every!r}.")
    if all(of_a_folder):
        raise InputError("A run is resumed or replaced; give one of resume and overwrite.")
    if out is None and any(of_a_folder):
        raise InputError("resume and overwrite have no meaning without out; give a run folder.")
    if out is None and config.trackers:
        raise InputError("Trackers need a run folder; give out, or use a callback.")
    if out is not None and optimizer is not None:
        raise InputError(
            "A run folder repeats its training from its config, which cannot hold an optimizer of "
            'your own; leave out the folder, or give settings such as {"name": "adamw"}.'
        )
    if optimizer is not None and config.compile == "cuda-graph":
        raise InputError("A CUDA graph takes Limner's own optimizer; leave out yours.")
    if model is not None and config.start_from is not None:
        raise InputError(
            "A model starts from its own weights; leave out start_from, or give a config."
        )
    if model is not None and out is not None:
        _check_registered(model)


@contextmanager
def _trainer(
    config: RunConfig,
    dataset: Dataset,
    model: LatentVariableModel | None,
    out: Path | None,
    resumes: Collection[str] | None,
    overwrite: bool,
    extras: Callable[[LatentVariableModel], Extras],
) -> Iterator[Trainer]:
    """The trainer of `model`, or of a new one, in memory or in the run folder `out`.

    With `resumes`, which names the settings to take from `config`, the run there is continued.
    """
    run, own_weights, resume = None, model is not None, resumes is not None
    with processes(config.device, out or Path()) as group, ExitStack() as stack:
        stack.enter_context(enough_memory(launch.savings(config)))
        dataset = launch.checked_images(config, dataset, group.device)
        if model is not None:
            _check_shape(model, dataset)
        if out is not None:
            kept = dataset.source or kept_as(dataset, out / IMAGES)
            config = config.with_(data=kept)
            run, model = launch.opened(config, out, dataset, group, resume, model, resumes)
        if model is None:
            model = initial_model(config, dataset, config.start_from).float()
        stack.enter_context(_lent(model, group.device))
        more = extras(model)
        if model.is_new and not resume:
            model.init_from_images(start_images(model, dataset))
        if run is None:
            trainer = launch.in_memory(config, dataset, group, model, more)
        else:
            trainer = launch.in_folder(run, dataset, group, model, resume, overwrite, more)
        trainer = stack.enter_context(trainer)
        if run is not None and not resume and group.is_first:
            _begin(trainer, run, own_weights)
        yield trainer


def _check_shape(model: LatentVariableModel, dataset: Dataset) -> None:
    if model.image_shape != dataset.image_shape:
        raise InputError(
            f"The model is for images of {model.image_shape} (channels, height, width), and "
            f"{dataset.name} has {dataset.image_shape}; make it with the image_shape of the images."
        )


def _check_registered(model: LatentVariableModel) -> None:
    """Refuse a model that a run folder cannot be opened with."""
    if class_of(model.config) is not type(model):
        raise InputError(
            f"{type(model).__name__} is not the registered model of {type(model.config).__name__}; "
            "give it a config of its own and call limner.register, or leave out the run folder."
        )


def _fitted(trainer: Trainer) -> bool:
    """Train to the end, and leave the best weights in the model; returns whether Ctrl-C came."""
    config, signum = trainer.config, 0
    try:
        signum = launch.to_the_end(trainer, str(config.model.kind))
    except Stopped as error:
        signum = error.signum
        if trainer.run is None:
            trainer.validate_if_due(calls_back=False)
    finally:
        if trainer.counters.step:
            trainer.model.load_state_dict(trainer.best())
    if signum:
        stopped = trainer.kept.stopped(signum)
        if signum != signal.SIGINT:
            raise stopped
        warn(str(stopped))
    return signum > 0


def _begin(trainer: Trainer, run: Run, has_own_weights: bool) -> None:
    """Write what a new run needs to be resumed: images given in memory, a model's own weights."""
    if trainer.dataset.source is None:
        keep(trainer.dataset, run.path / IMAGES)
    if has_own_weights:
        trainer.save()


@contextmanager
def _lent(model: LatentVariableModel, device: torch.device) -> Iterator[None]:
    """A context that trains a model on `device`, from which it comes back.

    It is in evaluation mode then, and after an error in the mode that it was in.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError(
            "All parameters of the model are frozen, or it has none; call requires_grad_() on "
            "those to train."
        )
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        raise InputError("Limner trains parameters in float32; call model.float() first.")
    home, compiled, mode = trained[0].device, model.compiled, model.training
    if home.type == "meta":
        raise InputError("The model is on the meta device; make it on another one.")
    with _lending:
        if id(model) in _lent_now:
            raise InputError("This model is in training already; wait for it, or train a copy.")
        _lent_now.add(id(model))
    try:
        model.to(device)
        yield
        model.eval()
    except BaseException:
        model.train(mode)
        raise
    finally:
        model.compiled = compiled
        model.to(home)
        _lent_now.discard(id(model))
