"""Errors of NCCL, Gloo and their rendezvous, as sentences that say what to do."""

from pathlib import Path

import torch.distributed as dist

from limner.errors import InputError


class ProcessLost(InputError):
    """Another process of the training ended."""


CAUSES: dict[str, tuple[str, ...]] = {
    "Two processes of this training use one GPU; start one process for each GPU of a host at "
    "most.": ("duplicate gpu",),
    "This torch has no NCCL, which several GPUs need; install torch with CUDA, or pass --device "
    "cpu.": ("have nccl built in",),
    "NCCL finds no network interface; set NCCL_SOCKET_IFNAME to the name of one, such as eth0, or "
    "lo if all processes are on one host.": ("no socket interface",),
    "The NVIDIA driver is too old for this torch; install a newer driver, or a torch for an older "
    "CUDA, or pass --device cpu.": ("driver version is insufficient", "driver on your system"),
    "The port for the processes of this training is in use; choose another MASTER_PORT, or start "
    "torchrun with --standalone.": ("eaddrinuse", "address already in use"),
    "The launcher did not say where the processes meet; start them by torchrun, or set "
    "MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE.": ("env:// rendezvous",),
}
"""Sentences, and words in errors, in small letters, that call for them."""
UNANSWERED = (
    "timed out",
    "timeout",
    "clients joined",
    "failed to connect",
    "connection refused",
    "connection reset",
    "connection closed",
    "closed by remote",
    "closed by peer",
    "remote process",
    "remoteerror",
    "aborted on rank",
    "gloo",
)
"""Words in the error of a process if another one does not answer."""


def explained(error: Exception, out: Path, begun: bool) -> InputError | None:
    """What an error of torch.distributed means; None if it is none.

    Args:
        begun: whether the processes had found each other.
    """
    text = str(error).lower()
    if isinstance(error, InputError):
        return None
    if not isinstance(error, dist.DistError) and not _names_communication(text):
        return None
    for sentence, words in CAUSES.items():
        if any(word in text for word in words):
            return InputError(sentence)
    if any(word in text for word in UNANSWERED):
        return ProcessLost(_lost(out)) if begun else InputError(_absent())
    reason = str(error).strip().splitlines()[-1].removeprefix("Last error:").strip(" .")
    again = f", and continue with limner train --resume --out {out}" if begun else ""
    return InputError(
        f"The processes of this training cannot communicate ({reason}); set NCCL_DEBUG=INFO for "
        f"the details{again}, or pass --device cpu."
    )


def _names_communication(text: str) -> bool:
    return any(word in text for word in ("gloo", "nccl", "env:// rendezvous"))


def _lost(out: Path) -> str:
    return (
        "Another process of this training ended or does not answer, so this one ends too; fix what "
        "it reports, if anything, then start all of them again with limner train --resume --out "
        f"{out}."
    )


def _absent() -> str:
    return (
        "The processes of this training did not all find each other; start as many as the launcher "
        "was told, on hosts that reach MASTER_ADDR at MASTER_PORT."
    )
