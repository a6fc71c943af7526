"""Processes that decode pictures, one for each core.

They are started as programs of their own, not by multiprocessing, so that a caller needs no guard
in its main module, may be any thread, and is not forked with the threads of torch.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from limner.data.decoding import Decoder

FEW = 400
"""Up to so many files are decoded in this process: others take longer to start."""
FEW_BYTES = 2**24
"""More bytes than these are decoded by several processes, whatever the number of files."""
AT_ONCE = 64
"""Files of one job."""
BYTES_AT_ONCE = 2**22
"""Bytes of the files of one job, unless it is one file."""
CODE = "from limner.data.decoding import serve; serve()"


def batches(sizes: Sequence[int]) -> Iterator[slice]:
    """The files of each job, given the bytes of every file."""
    start = taken = 0
    for place, size in enumerate(sizes):
        if place > start and (place - start >= AT_ONCE or taken + size > BYTES_AT_ONCE):
            yield slice(start, place)
            start, taken = place, 0
        taken += size
    if len(sizes):
        yield slice(start, len(sizes))


def answers(
    decoder: Decoder, jobs: Iterator[dict[str, Any]], count: int, size: int
) -> Iterator[list[list]]:
    """The answers to all jobs, in their order, for `count` files of `size` bytes.

    Raises:
        OSError: rows cannot be written.
    """
    processes = _cores()
    few = count <= FEW and size <= FEW_BYTES
    if few or min(count, processes) < 2 or not sys.executable:
        with contextlib.closing(decoder):
            for job in jobs:
                yield decoder.answer(**job)
        return
    pool, threads = _Pool(decoder.plan), ThreadPoolExecutor(processes)
    waiting = deque()
    try:
        pool.start(min(count, processes))
        for job in jobs:
            waiting.append(threads.submit(pool.answer, job))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        pool.close()
        threads.shutdown()


class _Pool:
    """Workers that take jobs from threads."""

    def __init__(self, plan: dict[str, Any]):
        self._plan, self._closed = plan, False
        self._free: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        self._all: list[subprocess.Popen[str]] = []

    def start(self, processes: int) -> None:
        """Start workers, all at once, and wait until they are ready."""
        for worker in [self._started() for _ in range(processes)]:
            _check_ready(worker)
            self._free.put(worker)

    def answer(self, job: dict[str, Any]) -> list[list]:
        worker = self._free.get()
        try:
            answer = _asked(worker, job)
        except (OSError, ValueError):
            answer = None
        if answer is None and not self._closed:  # it was killed, or a decoder crashed
            _ended(worker)
            worker = self._started()
            _check_ready(worker)
        self._free.put(worker)
        if isinstance(answer, dict):
            raise OSError(answer["errno"], answer["text"])
        if answer is not None or self._closed:
            return answer or []
        if len(job["names"]) == 1:
            return [["", "damaged", "its decoder crashed"]]
        return [
            self.answer(job | {"start": job["start"] + place, "names": [name]})[0]
            for place, name in enumerate(job["names"])
        ]

    def close(self) -> None:
        """End all workers, also in the middle of a job."""
        self._closed = True
        for worker in self._all:
            worker.kill()
        for worker in self._all:
            _ended(worker)

    def _started(self) -> "subprocess.Popen[str]":
        path = os.pathsep.join(filter(None, sys.path))
        worker = subprocess.Popen(
            [sys.executable, "-c", CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="ascii",
            env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C reaches only the caller, which ends the workers;
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # so on Windows
        )
        self._all.append(worker)
        _tell(worker, self._plan)
        return worker


def _asked(worker: "subprocess.Popen[str]", job: dict[str, Any]) -> Any:
    _tell(worker, job)
    assert worker.stdout is not None
    line = worker.stdout.readline()
    return json.loads(line) if line else None


def _check_ready(worker: "subprocess.Popen[str]") -> None:
    assert worker.stdout is not None
    if not worker.stdout.readline():
        raise ChildProcessError("a process that decodes pictures did not start")


def _tell(worker: "subprocess.Popen[str]", document: dict[str, Any]) -> None:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(document) + "\n")
    worker.stdin.flush()


def _ended(worker: "subprocess.Popen[str]") -> None:
    worker.kill()
    worker.wait()
    for stream in (worker.stdin, worker.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # what was not yet written
                stream.close()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
