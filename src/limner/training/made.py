"""Code and machine of a training: commit, versions, hardware."""

import os
import platform
import subprocess
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

import limner

SOURCE = Path(limner.__file__).parents[2]


class Maker(BaseModel):
    """Code and machine; `commit` is None if Limner does not run from a checkout."""

    model_config = ConfigDict(strict=True, frozen=True)

    limner: str
    commit: str | None
    torch: str
    python: str
    hardware: str
    threads: int
    processes: int = 1


def maker(device: torch.device, processes: int = 1) -> Maker:
    """This code and machine."""
    cuda = device.type == "cuda"
    return Maker(
        limner=limner.__version__,
        commit=_commit(),
        torch=torch.__version__,
        python=platform.python_version(),
        hardware=torch.cuda.get_device_name(device) if cuda else _processor(),
        threads=torch.get_num_threads(),
        processes=processes,
    )


def _commit() -> str | None:
    """The commit of the checkout, with `+ changes` if a source file differs."""
    if not (SOURCE / ".git").exists():
        return None
    head, changes = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "src")
    return f"{head} + changes" if head and changes else head


def _git(*arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(
            command, cwd=SOURCE, capture_output=True, encoding="utf-8", timeout=10, check=True
        )
    except (OSError, UnicodeError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    """Name and family of the processor, its vector instructions as torch uses them, and cores."""
    try:
        first, _, _ = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")
    except OSError:
        first = ""
    pairs = (line.partition(":") for line in first.splitlines())
    about = {key.strip(): value.strip() for key, _, value in pairs}
    name, family = about.get("model name", platform.processor()), about.get("cpu family")
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{name}{f' (family {family})' if family else ''}, {vectors}, {os.cpu_count()} cores"
