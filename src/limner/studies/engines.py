"""Engines: where the runs of a study are trained, several at once."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, NamedTuple, Protocol

from limner.errors import InputError
from limner.extras import install

LONGEST = 400
"""Letters of an error of Ray's in a log: its end."""
PATIENCE = 60.0
"""Seconds to wait for runs on a cluster that were told to save and leave."""
PROGRAM = ["-m", "limner.studies.working"]
TICK = 0.5
"""Seconds between two looks at what has ended."""


class Task(NamedTuple):
    """A run to train."""

    folder: Path
    config: Path
    log: Path
    """The file to which its output is appended."""


class Share(NamedTuple):
    """What one run may use."""

    threads: int
    gpu: str | None = None

    def environment(self) -> dict[str, str]:
        own = {"OMP_NUM_THREADS": str(self.threads), "COLUMNS": "80"}
        return own if self.gpu is None else own | {"CUDA_VISIBLE_DEVICES": self.gpu}


Ended = Callable[[Task, int], None]
"""Called with a task and its exit status."""
Tick = Callable[[Sequence[Task]], None]
"""Called now and then with the tasks under way."""


class Engine(Protocol):
    """Trains tasks, in any order."""

    def run(self, tasks: Sequence[Task], ended: Ended, tick: Tick) -> None:
        """Train all tasks. An interrupt ends those under way, their states saved."""
        ...


class Here:
    """This process, one run after the other. An error ends the study."""

    def __init__(self, train: Callable[[Task], None]):
        self.train = train

    def run(self, tasks: Sequence[Task], ended: Ended, tick: Tick) -> None:
        for task in tasks:
            self.train(task)
            ended(task, 0)


class Processes:
    """As many processes of this machine at once as there are shares."""

    def __init__(self, shares: Sequence[Share]):
        self.shares = shares

    def run(self, tasks: Sequence[Task], ended: Ended, tick: Tick) -> None:
        free: SimpleQueue[Share] = SimpleQueue()
        for share in self.shares:
            free.put(share)
        running = _Running()

        def train(task: Task) -> int:
            share = free.get()
            try:
                return running.process(task, share)
            finally:
                free.put(share)

        with ThreadPoolExecutor(len(self.shares)) as pool, running.ended_together():
            futures = {pool.submit(train, task): task for task in tasks}
            try:
                _follow(futures, running, ended, tick)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


class _Running:
    """The processes under way."""

    def __init__(self) -> None:
        self._inputs: dict[Task, IO[bytes]] = {}
        self._lock, self._closed = threading.Lock(), False

    def process(self, task: Task, share: Share) -> int:
        """Train a task in a process; returns its exit status."""
        command = [sys.executable, *PROGRAM, task.folder, task.config]
        with task.log.open("ab") as log:
            with self._lock:
                if self._closed:
                    return 130
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | share.environment(),
                    start_new_session=True,  # Ctrl-C reaches this process alone
                )
                assert process.stdin is not None
                self._inputs[task] = process.stdin
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._inputs.pop(task).close()

    def tasks(self) -> list[Task]:
        with self._lock:
            return list(self._inputs)

    @contextmanager
    def ended_together(self) -> Iterator[None]:
        """A context at whose end every process is told to save and leave."""
        try:
            yield
        finally:
            with self._lock:
                self._closed = True
                for stream in self._inputs.values():
                    stream.close()


def _follow(
    futures: Mapping["Future[int]", Task], running: _Running, ended: Ended, tick: Tick
) -> None:
    left = set(futures)
    while left:
        done, left = wait(left, timeout=TICK, return_when=FIRST_COMPLETED)
        for future in done:
            ended(futures[future], future.result())
        tick(running.tasks())


class Ray:
    """The nodes of a Ray cluster, which share the study's folder. Extra `[ray]`.

    A task that was on a node that was lost is started again on another, where it resumes.
    """

    def __init__(self, address: str | None, share: Share, gpus: float = 0.0):
        self.ray: Any = _ray()
        self.share, self.gpus = share, gpus
        if not self.ray.is_initialized():
            _check_reachable(address)
            try:
                self.ray.init(address=address, log_to_driver=False, configure_logging=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise InputError(f"Ray does not start: {error}") from None
        self._fit()

    def _fit(self) -> None:
        """Give a run no more cores than the largest node has, for which it would wait forever."""
        cores = [node["Resources"].get("CPU", 0) for node in self.ray.nodes() if node["Alive"]]
        if most := int(max(cores, default=0)):
            self.share = self.share._replace(threads=min(self.share.threads, most))

    def run(self, tasks: Sequence[Task], ended: Ended, tick: Tick) -> None:
        remote = self.ray.remote(num_cpus=self.share.threads, num_gpus=self.gpus, max_retries=-1)
        train = remote(_on_a_node)
        left = {train.remote(task, self.share): task for task in tasks}
        try:
            while left:
                done, _ = self.ray.wait(list(left), timeout=TICK)
                for reference in done:
                    task = left.pop(reference)
                    ended(task, self._status(reference, task))
                tick(list(left.values()))
        except BaseException:
            self._cancel(list(left))
            raise

    def _cancel(self, references: Sequence[Any]) -> None:
        """End the runs under way, and wait until they are saved; those in the queue never start."""
        for reference in references:
            self.ray.cancel(reference)
        self.ray.wait(references, num_returns=len(references), timeout=PATIENCE)

    def _status(self, reference: Any, task: Task) -> int:
        """The exit status of a run; an error of Ray's own, such as a node without Limner, is 1."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            with task.log.open("a", encoding="utf-8") as log:
                log.write(f"\n{' '.join(str(error).split())[-LONGEST:]}\n")
            return 1


def _check_reachable(address: str | None) -> None:
    """Refuse HOST:PORT at which nothing answers; Ray itself tries for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError):
        raise InputError(
            f"There is no Ray cluster at {address}; ray start --head prints the address of one."
        ) from None


def _on_a_node(task: Task, share: Share) -> int:
    """Train a task in a process; returns its exit status. When cancelled, it first saves."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray cancels by it, even if ignored
    statuses: list[int] = []
    Processes([share]).run([task], lambda _, status: statuses.append(status), lambda _: None)
    return statuses[0]


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise InputError(f"--engine ray needs Ray; run {install('ray')}.") from None
