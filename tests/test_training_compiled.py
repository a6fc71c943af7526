"""A compiler that fails: training continues eagerly and says so in one sentence."""

import os
import subprocess
import sys

import pytest

from limner.training import Run

pytestmark = pytest.mark.slow
WITHOUT_HEADERS = """#!/bin/sh
for word in "$@"; do
    shift
    case "$word" in *include/python3*) ;; *) set -- "$@" "$word" ;; esac
done
exec g++-real "$@"
"""
FAILS_IN_THE_BACKWARD_PASS = """#!/bin/sh
case "$1" in *.main.cpp) echo >> "$COUNT"; [ $(wc -l < "$COUNT") -ge 2 ] && exit 1 ;; esac
exec g++-real "$@"
"""
SMALL = [
    "--data.name",
    "digits",
    "--epochs",
    "1",
    "--compile",
    "always",
    "--evaluate-samples",
    "2",
    "--device",
    "cpu",
]
DRAW = ["draw", "--model.num-steps", "2", "--model.hidden-dim", "8"]
VAE = ["vae", "--model.hidden-dims", "8"]


@pytest.mark.parametrize(
    ("compiler", "model", "says"),
    [
        (WITHOUT_HEADERS, DRAW, "Python.h is missing"),
        (FAILS_IN_THE_BACKWARD_PASS, VAE, "InductorError"),
    ],
)
def test_a_failing_compiler_means_eager_training(compiler, model, says, tmp_path):
    real = subprocess.run(["which", "g++"], capture_output=True, text=True, check=True).stdout
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "g++-real").symlink_to(real.strip())
    (programs / "g++").write_text(compiler)
    (programs / "g++").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "limner.cli", "train", *model, *SMALL, "--out", tmp_path / "run"],
        env=os.environ
        | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "CXX": "g++",
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
            "COUNT": str(tmp_path / "count"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    (sentence,) = [line for line in lines if line.startswith("torch.compile failed (")]
    assert says in sentence
    assert sentence.endswith("training runs eagerly, slower.")
    assert Run.open(tmp_path / "run").results()
