"""Several processes train like one process. `processes.py` is the code that each of them runs."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from limner.training import Run, train
from limner.training.processes import Processes
from processes import BATCH, CASES, take_step, trainer_of

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("processes.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
FLAGS = f"""--model.hidden-dims 8 --model.latent-dim 2 --data.name digits --epochs 1
    --batch-size {BATCH} --ema-decay 0.9 --checkpoint-minutes 1e-9 --evaluate-samples 2""".split()
TRAIN = ["train", "vae", *FLAGS]
RESUME = ["train", "--resume"]
STEPS = 108
"""Of an epoch."""


def start(launcher, *task, **env):
    quiet = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "COLUMNS": "80"}
    return subprocess.Popen(
        [*launcher, SCRIPT, *task],
        env=os.environ | quiet | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def launch(launcher, *task, **env):
    """Exit status and standard error of a launch."""
    return end(start(launcher, *task, **env))


def end(process):
    _, errors = process.communicate()
    return process.returncode, errors


def torchrun(processes):
    return [*TORCHRUN, "--standalone", "--nproc-per-node", str(processes)]


def weights_of(run):
    return load_file(run / "checkpoints" / "last.safetensors")


def assert_figures(run, other, tolerance, *parts):
    """Both logged the same."""
    for entry, expected in zip(run.metrics(), other.metrics(), strict=True):
        assert entry["step"] == expected["step"]
        for part in parts:
            for name, value in expected[part].items():
                assert entry[part][name] == pytest.approx(value, rel=tolerance)


def assert_same(run, other):
    """The same weights to the bit, and the same figures to the order of their sums."""
    expected, found = weights_of(run), weights_of(other)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert_figures(Run.open(run), Run.open(other), 1e-6, "train", "validation")


# Gradients, figures, noise


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A step of two processes: the folder, and what each of them saw."""
    out = tmp_path_factory.mktemp("shared")
    for case in CASES:
        (out / case / "checkpoints").mkdir(parents=True)
    status, errors = launch(torchrun(2), "steps", out)
    assert status == 0, errors
    return out, [load_file(out / f"process-{rank}.safetensors") for rank in range(2)]


@pytest.fixture
def alone():
    torch.set_default_dtype(torch.float64)
    yield Processes(torch.device("cpu"))
    torch.set_default_dtype(torch.float32)


def close(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_and_one_have_the_same_gradients_and_figures(case, shared, alone, tmp_path):
    out, seen = shared
    trainer = trainer_of(case, tmp_path, alone)
    first, second = take_step(trainer), take_step(trainer)
    for process in seen:
        prefix = f"{case}."
        parts = {k.removeprefix(prefix): v for k, v in process.items() if k.startswith(prefix)}
        close(parts, first, 1e-12)
    resumed = trainer_of(case, out / case, alone)
    resumed.restore()
    close(take_step(resumed), second, 1e-9)  # Adam has magnified the rounding
    assert_figures(resumed.run, trainer.run, 1e-9, "train")


def test_processes_draw_different_noise(shared):
    first, second = (process["noise"] for process in shared[1])
    assert first.shape == second.shape == (2, 4)
    assert not torch.isclose(first, second).any()


# Commands


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two processes, watched."""
    run = tmp_path_factory.mktemp("whole") / "run"
    status, errors = launch(torchrun(2), "limner", run, *TRAIN)
    assert status == 0, errors
    return run


def test_one_process_writes(whole):
    first, second = ((whole.parent / f"process-{rank}.txt").read_text() for rank in range(2))
    assert "metrics.jsonl" in first
    assert not second
    assert len(Run.open(whole).metrics()) == 1
    assert json.loads((whole / "results.json").read_text())["elbo"]["mean"] < 0


def threads_of(run):
    return [path.read_text() for path in run.parent.glob("threads-*.txt")]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads have no names here")
def test_the_threads_of_the_group_end_with_the_training(whole):
    """One that lives on may meet the end of the interpreter, and abort a process that is done."""
    first, second = threads_of(whole)
    assert "python" in first
    assert "gloo" not in first + second


def test_accelerate_launch_gives_the_bits_of_torchrun(whole, tmp_path):
    launcher = [*ACCELERATE, "--num_processes", "2", "--main_process_port", "0"]
    status, errors = launch(launcher, "limner", tmp_path / "run", *TRAIN)
    assert status == 0, errors
    assert_same(tmp_path / "run", whole)


# Stopping and resuming


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run of two processes, one of which is killed half-way; and what was said."""
    run = tmp_path_factory.mktemp("killed") / "run"
    fate = {"VICTIM": "1", "STEP": "50", "SIGNAL": str(int(signal.SIGKILL))}
    status, errors = launch(torchrun(2), "limner", run, *TRAIN, **fate)
    assert status != 0
    return run, errors


def test_a_killed_process_stops_all_with_a_sentence(killed):
    run, errors = killed
    said = [line for line in errors.splitlines() if line.startswith("limner: ")]
    assert len(said) == 1
    assert "Another process of this training ended or does not answer" in said[0]
    assert f"--resume --out {run}" in said[0]
    assert "limner/training" not in errors, "a traceback"
    assert not (run / "results.json").exists()


def test_a_killed_run_continues_to_the_same_end(killed, whole, tmp_path):
    """On two hosts, as far as one can be two."""
    run = shutil.copytree(killed[0], tmp_path / "run")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    hosts = (
        "--nnodes 2 --nproc-per-node 1 --rdzv-id test --rdzv-backend c10d --local-addr 127.0.0.1"
    )
    launcher = [*TORCHRUN, *hosts.split(), "--rdzv-endpoint", endpoint]
    both = [start(launcher, "limner", run, *RESUME) for _ in range(2)]
    ends = [end(process) for process in both]
    assert [status for status, _ in ends] == [0, 0], ends
    assert_same(run, whole)


def test_a_signal_to_one_process_stops_all_and_three_continue(tmp_path):
    run = tmp_path / "run"
    fate = {"VICTIM": "1", "STEP": "30", "SIGNAL": str(int(signal.SIGTERM))}
    status, errors = launch(torchrun(2), "limner", run, *TRAIN, **fate)
    assert status != 0
    assert errors.count("limner: Stopped by SIGTERM; continue with limner train --resume") == 2
    noted = threads_of(run)
    assert noted
    assert not any("gloo" in threads for threads in noted)
    status, errors = launch(torchrun(3), "limner", run, *RESUME)
    assert status == 0, errors
    (entry,) = Run.open(run).metrics()
    assert (entry["epoch"], entry["step"]) == (1.0, STEPS)


def test_one_process_continues_after_two_were_killed(killed, tmp_path):
    run = Run.open(shutil.copytree(killed[0], tmp_path / "run"))
    (entry,) = train(run.config, run.path, resume=True).metrics()
    assert (entry["epoch"], entry["step"]) == (1.0, STEPS)
