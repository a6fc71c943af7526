"""Errors of NCCL and its rendezvous end in one sentence, before the first step and after.

The texts are those of torch and NCCL.
"""

from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from limner import InputError
from limner.training import processes as module
from limner.training.communication import ProcessLost
from limner.training.processes import processes

NCCL = (
    "NCCL error in: ../torch/csrc/distributed/c10d/NCCLUtils.cpp:93, {} (run with "
    "NCCL_DEBUG=WARN for details), NCCL version 2.27.7\n{}"
)
DUPLICATE = NCCL.format(
    "invalid usage",
    "ncclInvalidUsage: This usually reflects invalid usage of NCCL library.\n"
    "Last error:\nDuplicate GPU detected : rank 1 and rank 0 both on CUDA device 1a000",
)
NO_INTERFACE = NCCL.format(
    "internal error",
    "ncclInternalError: Internal check failed.\nLast error:\nBootstrap : no socket interface found",
)
DRIVER = NCCL.format(
    "unhandled cuda error",
    "ncclUnhandledCudaError: Call to CUDA function failed.\n"
    "Last error:\nCuda failure 'CUDA driver version is insufficient for CUDA runtime version'",
)
UNKNOWN = NCCL.format(
    "unhandled system error",
    "ncclSystemError: System call (e.g. socket, malloc) or external library call failed.\n"
    "Last error:\nError while creating shared memory segment /dev/shm/nccl-x (size 33030528).",
)
REMOTE = NCCL.format(
    "remote process exited or there was a network error",
    "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting "
    "prematurely.\nLast error:\nsocketProgress: Connection closed by remote peer host<40001>",
)
WATCHDOG = (
    "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, "
    "OpType=ALLREDUCE, NumelIn=1) ran for 600000 milliseconds before timing out."
)
AT_SETUP = [
    (dist.DistBackendError(DUPLICATE), "Two processes of this training use one GPU; start one"),
    (dist.DistBackendError(NO_INTERFACE), "NCCL finds no network interface; set NCCL_SOCKET_IFNA"),
    (dist.DistBackendError(DRIVER), "The NVIDIA driver is too old for this torch; install"),
    (
        dist.DistBackendError(UNKNOWN),
        "cannot communicate (Error while creating shared memory segment /dev/shm/nccl-x (size "
        "33030528)); set NCCL_DEBUG=INFO for the details, or pass --device cpu.",
    ),
    (
        RuntimeError("Distributed package doesn't have NCCL built in"),
        "This torch has no NCCL, which several GPUs need; install",
    ),
    (
        dist.DistStoreError("Timed out after 901 seconds waiting for clients. 1/2 clients joined."),
        "did not all find each other; start as many as the launcher was told",
    ),
    (
        dist.DistNetworkError(
            "The client socket has timed out after 600000ms while trying to connect to (a, 29500)."
        ),
        "did not all find each other; start as many as the launcher was told",
    ),
    (
        dist.DistNetworkError(
            "The server socket has failed to listen on any local network address. port: 29500, "
            "useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"
        ),
        "The port for the processes of this training is in use; choose",
    ),
    (
        ValueError(
            "Error initializing torch.distributed using env:// rendezvous: environment variable "
            "MASTER_ADDR expected, but not set"
        ),
        "The launcher did not say where the processes meet; start them by torchrun",
    ),
]
IN_THE_MIDDLE = [
    dist.DistBackendError(REMOTE),
    dist.DistBackendError(WATCHDOG),
    dist.DistBackendError("NCCL communicator was aborted on rank 1."),
    RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:22121"),
]


@contextmanager
def two(monkeypatch, error=None):
    """This process as the first of two, whose setup raises `error`."""

    def init(*args, **kwargs):
        if error is not None:
            raise error
        monkeypatch.setattr(dist, "is_initialized", lambda: True)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(module, "_own_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(dist, "init_process_group", init)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    with processes("cuda", Path("runs/mine")) as group:
        yield group


@pytest.mark.parametrize(("error", "says"), AT_SETUP)
def test_a_failure_at_setup_is_a_sentence(error, says, monkeypatch):
    with pytest.raises(InputError) as raised, two(monkeypatch, error):
        raise AssertionError
    assert says in str(raised.value)
    assert str(raised.value).count(". ") == 0
    assert not isinstance(raised.value, ProcessLost)


@pytest.mark.parametrize("error", IN_THE_MIDDLE)
def test_a_lost_process_is_a_sentence_that_says_how_to_continue(error, monkeypatch):
    with pytest.raises(ProcessLost) as raised, two(monkeypatch):
        raise error
    assert "ended or does not answer" in str(raised.value)
    assert str(raised.value).endswith("limner train --resume --out runs/mine.")


def test_an_unknown_failure_in_the_middle_says_how_to_continue(monkeypatch):
    error, says = dist.DistBackendError(UNKNOWN), r"/dev/shm.*limner train --resume --out runs/mine"
    with pytest.raises(InputError, match=says), two(monkeypatch):
        raise error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shape mismatch"), ValueError("timed out"), InputError("No runs/nccl here.")],
)
def test_other_errors_stay_as_they_are(error, monkeypatch):
    with pytest.raises(type(error), match=str(error)), two(monkeypatch):
        raise error
