"""`limner` in separate processes that tests kill, deprive of memory, signal and resume.

A fork server imports torch once, and every process is forked from it, which is cheap.
"""

import functools
import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from limner.cli import main
from limner.config import OptimizerConfig, RunConfig
from limner.data import DataConfig
from limner.models import DRAWConfig, LadderVAEConfig, VAEConfig
from limner.storage import load_tensors

FORKS = multiprocessing.get_context("forkserver")
PRELOADED = ["warm", "torch._dynamo"]
MODELS = {
    "vae": VAEConfig(hidden_dims=(8,), latent_dim=2),
    "ladder-vae": LadderVAEConfig(hidden_dims=(8, 6), latent_dims=(3, 2)),
    "draw": DRAWConfig(num_steps=2, hidden_dim=6, latent_dim=2, attention="filterbank"),
}
TIMING = {"seconds", "images_per_second"}


def tiny(images: Path, model: str = "vae", **changes) -> RunConfig:
    """A training of a second that writes a checkpoint after every step."""
    values = {
        "model": MODELS[model],
        "data": DataConfig(name=str(images)),
        "optimizer": OptimizerConfig(warmup_steps=2),
        "epochs": 3,
        "batch_size": 40,
        "ema_decay": 0.9,
        "checkpoint_minutes": 1e-9,
        "evaluate_samples": 2,
        "compile": "never",
        "device": "cpu",
    }
    return RunConfig(**values | changes)


def images_in(folder: Path) -> Path:
    levels = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    np.savez(folder / "images.npz", images=levels)
    return folder / "images.npz"


class Outcome(NamedTuple):
    status: int
    """The exit status; -signal where a signal ended the process."""
    told: str

    def refused(self, *words: str) -> None:
        """Status 2 and, after what was announced, one sentence that holds all `words`."""
        assert self.status == 2, self
        assert "Traceback" not in self.told, self.told
        *announced, sentence = self.told.splitlines()
        assert not any(line.startswith("limner: ") for line in announced), self.told
        assert sentence.startswith("limner: "), self.told
        assert all(word in sentence for word in words), self.told


class Limner:
    """`limner WORDS` in a process of its own, after `prepare()` there."""

    def __init__(self, *words: object, prepare: Callable[[], object] = int):
        _serve()
        self._heard, told = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(target=_enter, args=([*map(str, words)], prepare, told))
        self.process.start()
        told.close()

    def end(self) -> Outcome:
        """Wait for its end."""
        told = b""
        while part := os.read(self._heard.fileno(), 1 << 16):
            told += part
        self.process.join()
        return Outcome(self.process.exitcode or 0, told.decode())

    def signal(self, signum: int, after: float) -> Outcome:
        """Send a signal after so many seconds, unless it has ended by then."""
        self.process.join(after)
        if self.process.is_alive():
            os.kill(self.process.pid or 0, signum)
        return self.end()


@functools.cache
def _serve() -> None:
    """Start the fork server, with one thread."""
    FORKS.set_forkserver_preload(PRELOADED)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with mock.patch.dict(os.environ, PYTHONPATH=path.rstrip(os.pathsep), OMP_NUM_THREADS="1"):
        forkserver.ensure_running()


def _enter(words: list[str], prepare: Callable[[], object], told) -> None:
    for stream in (1, 2):
        os.dup2(told.fileno(), stream)
    told.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    prepare()
    sys.exit(main(words))


class Trial:
    """One training in a folder: started, disturbed, taken up again."""

    def __init__(self, config: RunConfig, out: Path):
        self.config, self.out = config, out

    def limner(self, prepare: Callable[[], object] = int) -> Limner:
        """`limner train`: resumed where the folder is a run, else started."""
        if (self.out / "config.json").is_file():
            return Limner("train", "--resume", "--out", self.out, prepare=prepare)
        given = self.out.with_suffix(".given.json")
        given.write_text(self.config.to_json())
        return Limner("train", "--config", given, "--out", self.out, prepare=prepare)

    def finish(self) -> "Trial":
        outcome = self.limner().end()
        assert outcome.status == 0, outcome
        return self

    def left(self) -> dict:
        """All that the training leaves behind, without times."""
        files = [*self.out.glob("checkpoints/[bl]*.safetensors"), self.out / "model.safetensors"]
        contents = {path.name: load_tensors(path) for path in files}
        tensors, counters = load_tensors(self.out / "checkpoints" / "training.safetensors")
        kept = {k: v for k, v in counters.items() if k not in ("seconds", "metrics_bytes")}
        contents["training"] = tensors, kept
        found = {
            name: (document, {key: tensor.numpy().tobytes() for key, tensor in tensors.items()})
            for name, (tensors, document) in contents.items()
        }
        lines = map(json.loads, (self.out / "metrics.jsonl").read_text().splitlines())
        found["metrics"] = [{k: v for k, v in line.items() if k not in TIMING} for line in lines]
        results = json.loads((self.out / "results.json").read_text())
        found["results"] = results["elbo"], results["iw_bound"]
        return found

    def strays(self) -> list[Path]:
        """Half-written files."""
        return list(self.out.rglob("*.tmp"))


# What may be prepared in a process; `functools.partial` fills in the arguments.


FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "os.link")


def at_event(
    number: int,
    folder: Path,
    action: Callable[[], object],
    events: tuple[str, ...] = FILE_EVENTS,
) -> None:
    """Do `action` just before file event `number`, from 0: opening, renaming, removing.

    Python tells an audit hook of each; those count whose path lies in `folder`.
    """
    left = [number]

    def hook(event: str, arguments: tuple) -> None:
        if event in events and f"{arguments[0]}/".startswith(f"{folder}/"):
            left[0] -= 1
            if left[0] == -1:
                action()

    sys.addaudithook(hook)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def limit(what: int, amount: int) -> None:
    """A soft limit on a resource of the process."""
    resource.setrlimit(what, (amount, resource.getrlimit(what)[1]))


def tear(size: int) -> None:
    """From now on the kernel kills the process in the middle of writing byte `size` of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit(resource.RLIMIT_FSIZE, size)


def spare_memory(amount: int) -> None:
    """Leave `amount` bytes of address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit(resource.RLIMIT_AS, pages * resource.getpagesize() + amount)
