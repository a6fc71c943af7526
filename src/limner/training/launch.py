"""Train one run from its config, from the start or from where it stopped."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from limner.config import RunConfig
from limner.data import Dataset, pixel_kind, suited
from limner.data import load as load_dataset
from limner.data.config import in_words
from limner.errors import InputError, enough_memory
from limner.models import LatentVariableModel, RecurrentConfig
from limner.progress import counted, duration, once, say, training_display, waiting, warn
from limner.training.averaging import has_batch_norm
from limner.training.compilation import wants_compiling, wants_graphs
from limner.training.divergence import remarks
from limner.training.graphs import on_own_stream
from limner.training.interrupts import StopSignals
from limner.training.needs import check_memory, check_weights, needs, time_needed
from limner.training.precision import check_precision, products_in
from limner.training.processes import Processes, processes
from limner.training.resuming import adopt, resumed
from limner.training.runs import Run
from limner.training.seen import check_same, remember
from limner.training.start import initial_model
from limner.training.trackers import require, trackers
from limner.training.trainer import NO_EXTRAS, Extras, Trainer

Adapt = Callable[[RunConfig, Dataset], RunConfig]


@once()
def train(
    config: RunConfig,
    out: Path | str,
    resume: bool = False,
    overwrite: bool = False,
    title: str | None = None,
    *,
    dataset: Dataset | None = None,
    adapt: Adapt | None = None,
) -> Run:
    """Train the model of `config` in the run folder `out`; returns the finished run.

    Leaves torch's random state, signal handlers and an existing process group as they were.

    Args:
        resume: continue the run in `out`. `config` may differ from its own in the settings of
            `resuming.MAY_CHANGE`.
        overwrite: replace the run in `out`.
        title: the name of the training on its progress bar.
        dataset: the images, if they are loaded already.
        adapt: called with the config of a new run and its images; returns the config to train with.

    Raises:
        InputError: anything about config, data or folder that the user can fix. Nothing has been
            written then.
        Stopped: by Ctrl-C or SIGTERM, the state saved.
    """
    out = Path(out).expanduser()
    if resume and overwrite:
        raise InputError("A run is resumed or replaced; give one of --resume and --overwrite.")
    require(config.trackers)
    with own_mode(), processes(config.device, out) as group, enough_memory(savings(config)):
        if dataset is None:
            with group.first_of_host_first(), waiting(f"loading {config.data.name}"):
                dataset = load_dataset(Run(out, config).data if resume else config.data)
        if adapt is not None and not resume:
            config = adapt(config, dataset)
        dataset = checked_images(config, dataset, group.device)
        with waiting("preparing the model"):
            run, model = opened(config, out, dataset, group, resume)
        with in_folder(run, dataset, group, model, resume, overwrite) as trainer:
            signum = to_the_end(trainer, title or config.model.kind)
    if group.is_first:
        for sentence in remarks(run.config, trainer.history, dataset):
            warn(sentence)
    if signum:
        raise trainer.kept.stopped(signum)
    return run


@contextmanager
def own_mode() -> Iterator[None]:
    """A context without the caller's modes: no_grad, inference, autocast and a default device."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in filter(torch.is_autocast_enabled, ("cpu", "cuda", "mps")):
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def checked_images(config: RunConfig, dataset: Dataset, device: torch.device) -> Dataset:
    """The dataset with a binarization that suits the model; refuses what cannot be trained."""
    dataset = suited(dataset, config.model.observation, config.data.binarization)
    pixel_kind(dataset, config.model.observation)
    _check_graph(config, device)
    check_precision(config.precision, device)
    return dataset


def opened(
    config: RunConfig,
    out: Path,
    dataset: Dataset,
    group: Processes,
    resume: bool,
    model: LatentVariableModel | None = None,
    given: Collection[str] | None = None,
) -> tuple[Run, LatentVariableModel]:
    """The run to train in `out`, new or to resume, and its model; nothing is written yet.

    Args:
        model: starts from its own weights.
        given: the settings that a resumed run takes from `config`; None: all.
    """
    if resume:
        config = resumed(Run.at(out).config, config, out, given)
    run = Run(out, config)
    if resume:
        check_same(run, dataset.train)
    start = config.start_from
    if not resume and start is not None and Path(start).resolve() == out.resolve():
        raise InputError(f"{out} cannot start from itself; choose another --out.")
    if model is not None:
        return run, model
    begun = resume and any(path.is_file() for path in run.training_states)
    check_weights(config, dataset, group.device)
    return run, initial_model(config, dataset, None if begun else start).float()


@contextmanager
def in_folder(
    run: Run,
    dataset: Dataset,
    group: Processes,
    model: LatentVariableModel,
    resume: bool = False,
    overwrite: bool = False,
    extras: Extras = NO_EXTRAS,
) -> Iterator[Trainer]:
    """The trainer of a run, whose folder no other training can use meanwhile."""
    config = run.config
    _check_model(config, dataset, group, model)
    held = run.lock() if resume else run.claim(overwrite)
    with held if group.is_first else nullcontext():
        group.wait()
        if group.is_first:
            adopt(run) if resume else remember(run, dataset.train)
        names = config.trackers if group.is_first else ()
        with trackers(names, run.path) as log, on_own_stream(group.device):
            extras = replace(extras, log=log)
            with waiting("preparing the training"):
                trainer = Trainer(config, dataset, group, model.to(group.device), run, extras)
                if resume:
                    trainer.restore()
            yield trainer
        group.wait()


@contextmanager
def in_memory(
    config: RunConfig,
    dataset: Dataset,
    group: Processes,
    model: LatentVariableModel,
    extras: Extras = NO_EXTRAS,
) -> Iterator[Trainer]:
    """The trainer of a model without a run folder."""
    _check_model(config, dataset, group, model)
    with on_own_stream(group.device):
        yield Trainer(config, dataset, group, model.to(group.device), None, extras)


def to_the_end(trainer: Trainer, title: str) -> int:
    """Train to the end of the budget; returns the signal that came during the last steps, or 0."""
    config, model, group = trainer.config, trainer.model, trainer.processes
    steps = trainer.batches.steps_per_epoch
    own = trainer.extras.optimizer is not None
    graphs = not own and wants_graphs(config, model, group.device, group.count)
    compiles = wants_compiling(config, model, steps, group.device, graphs)
    say(_summary(trainer, _mode(compiles, graphs)))
    epochs = None if graphs or config.minutes is not None else config.epochs
    if group.is_first and epochs is not None:  # trials of a step are eager, so not with graphs
        left = epochs * steps - trainer.counters.step
        share = trainer.batches.batch_size // group.count
        with waiting("estimating the time"):
            sentence = time_needed(config, model, trainer.dataset, share, left)
        if sentence:
            warn(sentence)
    if compiles:
        say("Compiling, once; this takes up to a minute.")
        model.compile_parts()
    if graphs:
        trainer.use_graphs()
    stopping = StopSignals(stops_compiling=group.count == 1)
    with (
        products_in(config.precision),
        training_display(title, "compiling" if compiles else "starting") as display,
        stopping as signals,
    ):
        trainer.fit(display, signals)
        signum = int(group.largest(signals.received)[0])
    if group.is_first:
        say(_outcome(trainer, title))
    return signum


def _check_model(
    config: RunConfig, dataset: Dataset, group: Processes, model: LatentVariableModel
) -> None:
    """Refuse a batch that cannot be trained on, and a training that needs too much memory."""
    batch = min(config.batch_size, len(dataset.train))
    _check_batch(batch, group.count, model)
    check_memory(config, model, dataset, group.device, batch // group.count)


def savings(config: RunConfig) -> str:
    """The advice to print when memory runs out."""
    advice, model = f"lower --batch-size {config.batch_size}", config.model
    stores = isinstance(model, RecurrentConfig) and model.memory != "recompute"
    if stores and not config.objective.traced:
        advice += ", or pass --model.memory recompute"
    return advice


def _check_graph(config: RunConfig, device: torch.device) -> None:
    if config.compile == "cuda-graph" and device.type != "cuda":
        raise InputError(
            f"A CUDA graph needs a GPU and the device is {device}; pass --compile auto."
        )


def _check_batch(batch: int, count: int, model: LatentVariableModel) -> None:
    if batch % count:
        raise InputError(
            f"A batch of {batch} images cannot be shared by {count} processes; make "
            "--batch-size a multiple of their number."
        )
    if batch == 1 and has_batch_norm(model):
        raise InputError(
            "Batch norm needs at least two images per batch, and this batch has one; raise "
            "--batch-size, and use more than one training image."
        )


def _mode(compiles: bool, graphs: bool) -> str:
    """How steps are taken, for the summary."""
    if graphs:
        return "compiled, CUDA graph" if compiles else "CUDA graph"
    return "compiled" if compiles else "eager"


def _summary(trainer: Trainer, mode: str) -> str:
    model, dataset = trainer.model, trainer.dataset
    config, share = trainer.config, trainer.batches.batch_size // trainer.processes.count
    needed = needs(config, model, dataset, trainer.device, share)
    kept = "store" if config.objective.traced else model.memory_mode(share)
    groups = counted(model.num_groups, "latent group")
    images = counted(len(dataset.train), "image")
    shape = "x".join(map(str, dataset.image_shape))
    return (
        f"{config.model.kind}: {model.num_parameters:,} parameters, {groups}; {dataset.name}: "
        f"{images} of {shape}, {in_words(dataset.binarization)}; about "
        f"{needed.total / 2**20:,.0f} MiB on {trainer.device} (activations: {kept}); "
        f"{mode}; {_budget(trainer)}{'' if trainer.run is None else f', to {trainer.run.path}'}."
    )


def _budget(trainer: Trainer) -> str:
    """What ends the training, such as 20 epochs of 40 steps, or 5 minutes."""
    config, words = trainer.config, []
    if config.epochs is not None:
        steps = counted(trainer.batches.steps_per_epoch, "step")
        words.append(f"{counted(config.epochs, 'epoch')} of {steps}")
    if config.minutes is not None:
        words.append(f"{config.minutes:g} minutes")
    return " or at most ".join(words)


def _outcome(trainer: Trainer, title: str) -> str:
    counters = trainer.counters
    best = counters.best_bound
    epochs = counters.epoch + counters.index / trainer.batches.steps_per_epoch
    return (
        f"{title}: trained {epochs:.4g} epoch{'' if epochs == 1 else 's'} "
        f"in {duration(counters.seconds)}"
        + ("." if best is None else f", best validation {trainer.validator.shown} {-best:.2f}.")
    )
