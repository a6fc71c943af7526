"""Limner without what exists on Unix only: see unixless.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from limner import storage

HERE = Path(__file__).parent
WALK = """
import importlib, pkgutil, sys
import unixless
import limner, limner.cli
from limner.cli import main

for module in pkgutil.walk_packages(limner.__path__, "limner."):
    if not module.name.startswith("limner.app") and module.name != "limner.__main__":
        importlib.import_module(module.name)
small = "--data.name digits --batch-size 300 --evaluate-samples 2 --compile never".split()
out = ["--out", sys.argv[1]]
assert main(["train", "vae", "--epochs", "1", "--model.latent-dim", "2", *small, *out]) == 0
assert main(["train", "--resume", *out]) == 0
assert main(["evaluate", sys.argv[1], "--num-samples", "3", "--num-images", "9"]) == 0
assert main(["reconstruct", sys.argv[1], "--n", "2"]) == 0
assert limner.load("mnist-draw").sample(2).shape == (2, 1, 28, 28)
"""
CORE = ["test_saved.py", "test_data_cache.py"]
"""All that is quick of these; the whole suite takes too long twice."""


def without_unix(*command, **settings):
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment, capture_output=True, text=True, check=False, **settings,
    )  # fmt: skip


@pytest.mark.parametrize(
    "code",
    [
        "import fcntl",
        "import resource",
        "import signal; signal.SIGPIPE",
        "from os import O_NOFOLLOW",
        "import ctypes; ctypes.CDLL(None)",
        "import os; assert os.name != 'nt'",
        "import sys; assert sys.platform != 'win32'",
        "import pathlib; pathlib.Path('/proc/self/maps').read_text()",
    ],
)
def test_the_plugin_hides_what_it_says(code):
    """Limner's modules fail at it; others do not."""
    run = f"import unixless\nexec({code!r}, {{'__name__': NAME}})"
    assert without_unix("-c", f"NAME = 'elsewhere'\n{run}").returncode == 0
    assert without_unix("-c", f"NAME = 'limner.here'\n{run}").returncode == 1


@pytest.mark.slow
def test_limner_trains_resumes_evaluates_and_draws_without_unix(tmp_path):
    """Every module is imported. `main` reports errors as a status, so nothing else may be told."""
    done = without_unix("-c", WALK, tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_core_tests_pass_without_unix():
    chosen = [HERE / name for name in CORE]
    done = without_unix(
        "-m", "pytest", "-p", "unixless", "-p", "no:cacheprovider", "-m", "not slow", *chosen,
        cwd=HERE.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]


def test_loaded_tensors_are_not_mapped(tmp_path):
    """Windows does not replace a file that is mapped, and a run replaces its checkpoints."""
    storage.save_tensors(tmp_path / "a.safetensors", {"a": torch.ones(2**16)}, {})
    tensors, _ = storage.load_tensors(tmp_path / "a.safetensors")
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("the system has no list of mappings")
    assert "a.safetensors" not in maps.read_text()
    assert tensors["a"].sum() == 2**16


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_text_that_the_terminal_cannot_write_is_replaced(encoding):
    """A pipe on Windows has an encoding of a few hundred letters."""
    code = "print('\\N{MINUS SIGN} \\u56fe'); from limner.progress import warn; warn('\\u56fe')"
    code = (
        f"from limner import cli; cli._main = lambda _: exec({code!r}) or 0; "
        "raise SystemExit(cli.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert b"\\u56fe" in done.stdout
