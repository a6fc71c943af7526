"""Freed memory that is kept between steps, measured by page faults and resident size."""

import ctypes
import resource
import subprocess
import sys

import pytest

COUNT = """
import ctypes, resource, sys
from contextlib import nullcontext
from pathlib import Path

import torch

from limner.cpu.heap import kept_memory

PR_SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)  # pages of one size are counted
stored = [torch.UntypedStorage(0) for _ in range(8)]

def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for storage in stored:
        storage.resize_(2**24).fill_(1)
    for storage in stored:
        storage.resize_(0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

step()
with kept_memory() if sys.argv[1] == "kept" else nullcontext():
    for _ in range(20):
        step()
    print(sum(step() for _ in range(5)))
    within = resident()
print(within - resident())
for _ in range(20):
    step()
print(sum(step() for _ in range(5)))
"""
PAGES = 2**27 // resource.getpagesize()
"""Of what a step stores."""


def count(how: str) -> list[int]:
    """Page faults of five steps; pages that are handed back after; page faults of five more."""
    run = subprocess.run(
        [sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True
    )
    return [int(line) for line in run.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
def test_memory_is_kept_within_and_handed_back_after():
    plain_faults, _, plain_faults_after = count("plain")
    assert plain_faults > PAGES, "nothing to gain here"
    faults, handed_back, faults_after = count("kept")
    assert faults < PAGES / 10
    assert handed_back > PAGES / 2
    assert faults_after <= plain_faults_after + PAGES / 10
