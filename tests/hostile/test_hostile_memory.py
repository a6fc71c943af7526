"""Decompression bombs: each is refused, in bounded memory and time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bombs import BOMBS
from hostility import is_sentence

MAX_MIB = 200
"""Above what the process holds before it reads anything."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bombs")
    command = [sys.executable, str(Path(__file__).with_name("bombs.py")), str(folder)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_it_goes_off(bomb, outcomes):
    sentence, peak = outcomes[bomb]
    base = min(peak for _, peak in outcomes.values())
    assert is_sentence(sentence), sentence
    assert peak - base < MAX_MIB
