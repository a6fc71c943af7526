"""SIGTERM, Ctrl-C and a closed pipe: the command exits cleanly at any moment."""

import random
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from victim import Trial, at_event, images_in, tiny

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_time(signum, tmp_path):
    config = tiny(images_in(tmp_path), "ladder-vae")
    Trial(config, tmp_path / "first").finish()
    start = time.monotonic()
    expected = Trial(config, tmp_path / "whole").finish().left()
    seconds = time.monotonic() - start
    moments = random.Random(int(signum))
    for number in range(4):
        trial = Trial(config, tmp_path / str(number))
        outcome = trial.limner().signal(signum, moments.uniform(0, seconds))
        assert "Traceback" not in outcome.told, outcome
        assert outcome.status in (0, 128 + signum, -signum), outcome
        assert trial.finish().left() == expected
        assert not trial.strays()
    trial = Trial(config, tmp_path / "in its second epoch")
    raised = partial(signal.raise_signal, signum)
    assert trial.limner(partial(at_event, 60, trial.out, raised)).end().status == 128 + signum
    assert trial.finish().left() == expected


@pytest.mark.parametrize("arguments", ["--help", "train --help", "evaluate --help", "data list"])
def test_a_closed_pipe_ends_quietly(arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "limner.cli", *arguments.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 128 + signal.SIGPIPE
