"""Test the wheel of Limner in a new environment of each given Python.

    check.py [--extras] PYTHON...

The wheel is built, then installed with constraints.txt in a new environment outside the source
tree. There every command runs in a folder with an unusual name, with no HOME, no terminal, LANG=C
and no compiler. Then a package that registers a model is installed and used. With --extras, each
extra is installed and used as well. Needs only the standard library.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugin"
PLACE = "Bilder für Zoë 图"
SMALL = "--epochs 1 --batch-size 100 --evaluate-samples 2 --data.name digits --seed 3"
TRAIN = f"train vae {SMALL} --model.hidden-dims 8 --model.latent-dim 2"
DRAW = f"train draw {SMALL} --model.num-steps 2 --model.hidden-dim 8 --model.latent-dim 2"
PICTURES = """
from pathlib import Path
import numpy as np
from PIL import Image
Path("Ordner ß").mkdir()
for i in range(20):
    Image.fromarray(np.full((8, 8), 12 * i, np.uint8)).save(f"Ordner ß/Zoë 图 {i}.png")
"""
COMMANDS = [
    "--help",
    "--version",
    "data list",
    f"{TRAIN} --out 1",
    f"{TRAIN} --out 2",
    f"{DRAW} --out draw",
    "evaluate 1 --num-samples 2",
    "sample 1 --n 4 --npz",
    "sample 2 --n 4 --npz",
    "reconstruct 1",
    "interpolate 1",
    "encode 1",
    "compress 1 --num-images 9 --out test.lim",
    "decompress test.lim --out again",
    "probe 1 --num-train 100 --num-test 50",
    "animate draw --grid 1 2 --magnification 1",
    "figures draw --max-images 20 --projection pca --formats png",
    "compare 1 draw --out comparison",
    "report 1 draw",
    "train --resume --out 1",
]
"""Each must succeed; 1, 2 and draw are runs."""
SAME = ["model.safetensors", "figures/samples-seed-0.png", "figures/samples-seed-0.npz"]
"""Files of 1 and of 2, which have one seed."""
PLUGIN_COMMANDS = [
    f"train tiny-vae {SMALL} --model.output-scale 0.5 --out tiny",
    "evaluate tiny --num-samples 2",
    "figures tiny --max-images 20 --projection pca --formats png",
    "report tiny",
]
"""Each must succeed once the package in tests/plugin is installed."""
MISSING = {
    "play 1": "app",
    "train vae --epochs 1 --data.name hub:mnist --out hub": "hub",
    f"{TRAIN} --out board --trackers tensorboard": "trackers",
    f"{TRAIN} --out wandb --trackers wandb": "trackers",
}
"""What needs an extra."""
with (ROOT / "pyproject.toml").open("rb") as file:
    EXTRAS = sorted(tomllib.load(file)["project"]["optional-dependencies"].keys() - {"dev"})
IMPORTS = """
import importlib, importlib.metadata as metadata, re, sys
names = {}
for name, found in metadata.packages_distributions().items():
    for one in found:
        names.setdefault(re.sub("[-_.]+", "-", one).lower(), []).append(name)
for requirement in metadata.requires("limner"):
    wanted, _, extra = requirement.partition("; extra == ")
    if extra.strip()[1:-1] in sys.argv[1:]:
        package = re.match("[A-Za-z0-9._-]+", wanted)[0]
        modules = [name for name in names[re.sub("[-_.]+", "-", package).lower()] if name[0] != "_"]
        assert modules, package
        for module in modules:
            importlib.import_module(module)
"""
"""Imports each package of the extras that are given as arguments."""


class Environment:
    """A virtual environment with the wheel in it, and a hard place to work in."""

    def __init__(self, python: str, folder: Path):
        self.folder, self.place = folder / "venv", folder / PLACE
        self.place.mkdir()
        subprocess.run([python, "-m", "venv", self.folder], check=True)

    def install(self, what: str | Path) -> float:
        """Seconds that it took."""
        start = time.monotonic()
        pip = [self.folder / "bin" / "python", "-m", "pip", "install", "--quiet", what]
        options = ["--disable-pip-version-check", "--constraint", ROOT / "constraints.txt"]
        subprocess.run([*pip, *options], check=True, cwd=self.folder)
        return time.monotonic() - start

    def start(self, program: str, *arguments: str, **env: str) -> subprocess.Popen:
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        bare = {"PATH": str(self.folder / "bin"), "LANG": "C", "LC_ALL": "C"}
        return subprocess.Popen(
            [self.folder / "bin" / program, *arguments],
            cwd=self.place,
            env=bare | {"OMP_NUM_THREADS": threads} | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def run(self, program: str, *arguments: str, status: int = 0, **env: str) -> tuple[str, str]:
        """Standard output and error of a program that must end with `status`."""
        process = self.start(program, *arguments, **env)
        out, errors = process.communicate()
        assert process.returncode == status, f"{arguments}: {process.returncode}\n{out}{errors}"
        return out, errors


def check(here: Environment) -> None:
    """The wheel alone."""
    where = "import limner, torch; print(limner.__file__, torch.__version__)"
    home, torch = here.run("python", "-c", where)[0].split()
    assert Path(home).is_relative_to(here.folder), home
    here.run("python", "-c", PICTURES)
    for command in COMMANDS:
        _, errors = here.run("limner", *command.split())
        assert "Traceback" not in errors, errors
        assert ("no C++ compiler" in errors) == ("train draw" in command), errors
    here.run("limner", *f"{TRAIN} --out 3 --data.name".split(), "./Ordner ß", HOME="/dev/null")
    for name in SAME:
        first, second = ((here.place / run / name).read_bytes() for run in "12")
        assert first == second, name
    for command, extra in MISSING.items():
        _, errors = here.run("limner", *command.split(), status=2)
        assert re.fullmatch(rf"limner: .*'limner\[{extra}\]'\.\n", errors), errors
    print(f"  torch {torch}; {len(COMMANDS) + 1} commands; {len(MISSING)} missing extras named")


def check_plugin(here: Environment) -> None:
    """A model of another package, installed beside Limner and removed again."""
    here.install(shutil.copytree(PLUGIN, here.folder.parent / "plugin"))  # pip builds in the folder
    for command in PLUGIN_COMMANDS:
        here.run("limner", *command.split())
    load = "import limner; print(type(limner.load('tiny')).__name__)"
    assert here.run("python", "-c", load)[0] == "TinyVAE\n"
    here.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "tiny-vae")
    _, errors = here.run("limner", "evaluate", "tiny", status=2)
    assert re.fullmatch(r"limner: There is no model 'tiny-vae'.*install its package\.\n", errors)
    print("  a package's model used")


def check_extras(here: Environment) -> None:
    """The extras, installed: the packages that they name are imported, then commands use them."""
    here.run("python", "-c", IMPORTS, *EXTRAS)
    here.run("limner", *TRAIN.split(), "--out", "board", "--trackers", "tensorboard")
    assert list((here.place / "board").rglob("events.out.tfevents*"))
    offline = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    here.run("limner", *TRAIN.split(), "--out", "wandb", "--trackers", "wandb", **offline)
    hub = ["train", "vae", "--epochs", "1", "--data.name", "hub:./nowhere", "--out", "hub"]
    _, errors = here.run("limner", *hub, status=2)
    assert "limner[hub]" not in errors, errors
    page = here.start("limner", "play", "1", PYTHONUNBUFFERED="1")
    address = next(re.search(r"http://\S+?:\d+", line) for line in page.stdout if "http" in line)
    assert urllib.request.urlopen(address[0]).status == 200
    page.terminate()
    page.communicate()
    print(f"  extras {', '.join(EXTRAS)} imported; app, hub and trackers used")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="+", metavar="PYTHON")
    parser.add_argument("--extras", action="store_true")
    options = parser.parse_args()
    for python in options.pythons:
        with tempfile.TemporaryDirectory(prefix="limner ") as name:
            start, here = time.monotonic(), Environment(python, Path(name))
            build = ["wheel", "--quiet", "--no-deps", "--wheel-dir", name, ROOT]
            subprocess.run([here.folder / "bin" / "python", "-m", "pip", *build], check=True)
            (wheel,) = map(str, Path(name).glob("limner-*.whl"))
            print(f"{python}: installed in {here.install(wheel):.0f} s", flush=True)
            check(here)
            check_plugin(here)
            if options.extras:
                here.install(f"{wheel}[{','.join(EXTRAS)}]")
                check_extras(here)
            print(f"  {time.monotonic() - start:.0f} s in all", flush=True)


if __name__ == "__main__":
    sys.exit(main())
