"""The program that each process of `test_processes` runs.

processes.py steps OUT            one step of every case in float64, with given noise
processes.py limner OUT ARGS...   the command line; records what it writes
"""

import os
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from limner.cli import main
from limner.config import ObjectiveConfig, RunConfig
from limner.data import DataConfig
from limner.data import load as load_data
from limner.models import DRAWConfig, LadderVAEConfig, VAEConfig
from limner.models.draws import Draws
from limner.training import Run
from limner.training.processes import processes
from limner.training.start import initial_model
from limner.training.state import figures_of
from limner.training.trainer import Trainer

MODELS = {
    "vae": VAEConfig(hidden_dims=(16,), latent_dim=4),
    "ladder-vae": LadderVAEConfig(hidden_dims=(16, 8), latent_dims=(4, 2)),
    "draw": DRAWConfig(num_steps=3, hidden_dim=8, latent_dim=3),
    "attention": DRAWConfig(num_steps=3, hidden_dim=8, latent_dim=3, attention="filterbank"),
}
OBJECTIVES = {
    "elbo": ObjectiveConfig(),
    "free-bits": ObjectiveConfig(free_bits=0.5),
    "iwae": ObjectiveConfig(kind="iwae", num_samples=2, gradient="dreg"),
}
CASES = {f"{model}-elbo": (model, "elbo") for model in MODELS}
CASES |= {f"ladder-vae-{name}": ("ladder-vae", name) for name in ("free-bits", "iwae")}
CASES |= {"ladder-vae-elbo-compiled": ("ladder-vae", "elbo")}
"""Those that say so are compiled where there are several processes."""
BATCH = 12


def trainer_of(case, run, group):
    model, objective = CASES[case]
    config = RunConfig(
        model=MODELS[model],
        objective=OBJECTIVES[objective],
        data=DataConfig(name="digits"),
        epochs=1,
        batch_size=BATCH,
        device="cpu",
    )
    dataset = load_data(config.data)
    model = initial_model(config, dataset)
    trainer = Trainer(config, dataset, group, model.to(group.device), Run(run, config))
    trainer.begin()
    return trainer


def take_step(trainer):
    """Take a step whose noise is handed in, part by part; returns its gradient, logs its figures.

    The noise of a group is one tensor for the whole batch, whatever the number of processes.
    """
    step, part, count = trainer.counters.step, trainer.processes.rank, trainer.processes.count
    gradient = {}

    def noise(_, group, like):
        generator = torch.Generator().manual_seed(100 * step + group)
        samples = len(like) * count // BATCH
        whole = torch.randn(samples, BATCH, *like.shape[1:], generator=generator)
        return whole[:, part::count].flatten(0, 1).to(like)

    def note(*_):
        for index, parameter in enumerate(trainer.stepper.update.parameters):
            gradient[f"{step}.{index}"] = parameter.grad.clone()

    trainer.model.saved_floats  # noqa: B018 - found by a trial, which draws noise of its own
    hook = register_optimizer_step_pre_hook(note)
    x = trainer.batches.batch(trainer.counters.epoch, trainer.counters.index).double()
    with patch.object(Draws, "noise", noise):
        trainer.take_step(x[part::count])
    hook.remove()
    trainer.validation = figures_of(trainer.stepper.totals.read())
    entry = trainer._entry()
    if trainer.processes.is_first:
        trainer.counters.metrics_bytes = trainer.kept.record(entry)
    return gradient


def own_noise(trainer):
    """The noise that this process draws for a step when none is handed in."""
    drawn = []

    def noise(draws, group, like):
        drawn.append(original(draws, group, like))
        return drawn[-1]

    original = Draws.noise
    with patch.object(Draws, "noise", noise):
        trainer.take_step(trainer.batches.batch(0, 0)[:2].double())
    return drawn[0]


def steps(out):
    torch.set_default_dtype(torch.float64)
    with processes("cpu", out) as group:
        seen = {"noise": own_noise(trainer_of("vae-elbo", out, group))}
        for case in CASES:
            trainer = trainer_of(case, out / case, group)
            if case.endswith("compiled"):
                trainer.model.compile_parts()
            seen |= {f"{case}.{name}": value for name, value in take_step(trainer).items()}
            trainer.save()
        save_file(seen, out / f"process-{group.rank}.safetensors")


@contextmanager
def watched(out):
    """Note what this process writes; send it the signal SIGNAL at its step STEP, if it is RANK."""
    rank, env = os.environ["RANK"], os.environ
    written, taken = [], 0

    def note(event, args):
        writes = event == "open" and isinstance(args[2], int) and args[2] & os.O_ACCMODE
        if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            written.append(f"{event} {args[0]}")

    def signalled(*_):
        nonlocal taken
        taken += 1
        if rank == env.get("VICTIM") and taken == int(env["STEP"]):
            signal.raise_signal(int(env["SIGNAL"]))

    sys.addaudithook(note)
    hook = register_optimizer_step_pre_hook(signalled)
    yield
    hook.remove()
    kept = "\n".join(path for path in written if str(out) in path)
    (out.parent / f"process-{rank}.txt").write_text(kept)


def note_threads(out):
    """The names of this process's threads, which must not outlive the interpreter."""
    threads = ""
    for task in Path("/proc/self/task").glob("*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # one that ends meanwhile
            threads += (task / "comm").read_text()
    (out.parent / f"threads-{os.environ['RANK']}.txt").write_text(threads)


if __name__ == "__main__":
    task, out, *arguments = sys.argv[1:]
    if task == "steps":
        steps(Path(out))
    else:
        with watched(Path(out)):
            status = main([*arguments, "--out", out])
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, once another has ended
        note_threads(Path(out))
        sys.exit(status)
