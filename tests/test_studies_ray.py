"""A run on a Ray cluster of two local nodes, one of which is killed; needs the extra [ray]."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

pytest.importorskip("ray")

from limner.config import RunConfig
from limner.training import train
from limner.training.runs import Run

LIMIT = 240
"""Seconds for the program, which needs about one minute of a core."""


def ended(command, **options):
    """The exit status and output of a program, which ends within `LIMIT` with all its processes."""
    with tempfile.TemporaryFile("w+") as output:
        program = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **options
        )
        family = []
        try:
            status = program.wait(LIMIT)
        except subprocess.TimeoutExpired:
            family = psutil.Process(program.pid).children(recursive=True)
            status = f"not ended after {LIMIT} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        output.seek(0)
        return status, output.read()


@pytest.mark.slow
def test_a_stop_and_a_lost_node_lose_nothing(tmp_path):
    out = tmp_path / "study"
    command = [sys.executable, Path(__file__).with_name("ray_cluster.py"), out]
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as short:
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "RAY_TMPDIR": short,  # the paths of sockets have few letters
            "RAY_USAGE_STATS_ENABLED": "0",
            # all addresses are 127.0.0.1: Ray takes the machine's own address for a given 127.0.0.1
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
        status, said = ended(command, env=environment)
    if status == 77:
        pytest.skip(said.splitlines()[-1])
    log = "".join(path.read_text() for path in out.glob("logs/*"))
    assert status == 0, said + log
    assert "limner: Stopped by SIGTERM" in log
    assert log.count(" parameters, ") == 3  # at first, after the stop, and on the other node
    [run] = map(Run.at, out.glob("draw*"))
    assert [line["epoch"] for line in run.metrics()] == list(range(1, run.config.epochs + 1))
    alone = train(RunConfig.read(run.path / "config.json"), tmp_path / "alone")
    own, other = run.model().state_dict(), alone.model().state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)
