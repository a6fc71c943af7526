"""Memory that is kept between steps: what the system counts of it."""

import subprocess
import sys

import pytest

COUNT = """
import resource, sys
from contextlib import nullcontext
from pathlib import Path

import torch

from limner.heap import kept_memory

stored = torch.UntypedStorage(0)

def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    stored.resize_(2**24)
    stored.fill_(1)
    stored.resize_(0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

step()
with kept_memory() if sys.argv[1] == "kept" else nullcontext():
    for _ in range(3):
        step()
    print(sum(step() for _ in range(5)))
    within = resident()
print(within - resident())
step()
print(sum(step() for _ in range(5)))
"""
PAGES = 2**24 // 4096
"""Of what a step stores."""


def count(how: str) -> list[int]:
    """Page faults of five steps; pages that are handed back after; page faults of five more."""
    run = subprocess.run(
        [sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True
    )
    return [int(line) for line in run.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the allocator of another system")
def test_memory_is_kept_within_and_handed_back_after():
    assert count("plain")[0] > PAGES, "nothing to gain here"
    faults, handed_back, faults_after = count("kept")
    assert faults < PAGES / 10
    assert handed_back > PAGES / 2
    assert faults_after > PAGES / 2
