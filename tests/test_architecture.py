"""Imports go in the designed direction, and importing Limner is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import limner

SOURCE = Path(limner.__file__).parent
RANKS = [  # each may import what stands above it, and itself
    {"keywords", "lazy", "notebook"},
    {"errors", "extras", "transforms"},
    {"cpu"},
    {"device", "progress"},
    {"settings", "pictures", "storage"},
    {"layers", "data"},
    {"models"},
    {"coding", "estimators"},
    {"objectives", "config", "hub"},
    {"recipes"},
    {"training", "evaluation"},
    {"figures"},
    {"report"},
    {"sharing"},
]
MODULES = {path.relative_to(SOURCE): path for path in sorted(SOURCE.rglob("*.py"))}


def rank(part):
    """Parts that are not listed, such as the commands, stand below all that are."""
    return next((i for i, parts in enumerate(RANKS) if part in parts), len(RANKS))


def imports(path):
    """Dotted names that a module imports anywhere in it, `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts(path):
    """Limner's own parts that a module imports: `limner.elbo` is of `objectives`."""
    for name in imports(path):
        if name.startswith("limner."):
            part = name.split(".")[1]
            yield limner._HOMES.get(part, part).split(".")[0]


def test_imports_point_one_way():
    """The public names of `limner/__init__.py` are the exception."""
    wrong = set()
    for name, path in MODULES.items():
        own = name.with_suffix("").parts[0]
        for part in set(parts(path)):
            upwards = own != "__init__" and rank(part) > rank(own)
            command_line = part == "cli" and own not in ("cli", "__main__")
            config = part in ("data", "config") and own in ("layers", "models", "objectives")
            if upwards or command_line or config:
                wrong.add(f"{name} imports {part}")
    assert not wrong


def test_plots_belong_to_figures_the_playground_to_app_and_nothing_is_unpickled():
    homes = {"matplotlib": "figures", "gradio": "app", "pickle": None}
    wrong = {
        f"{name} imports {root}"
        for name, path in MODULES.items()
        for root in {imported.split(".")[0] for imported in imports(path)}
        if root in homes and name.parts[0] != homes[root]
    }
    assert not wrong


def test_only_the_command_line_changes_the_allocator():
    wrong = {
        str(name) for name, path in MODULES.items() if "limner.cpu.heap" in " ".join(imports(path))
    }
    assert wrong == {"cli.py"}


MACHINERY = {
    "base",
    "configs",
    "draws",
    "recurrent",
    "checks",
    "memory",
    "representations",
    "saved",
}
"""Modules of `models` that every model may use."""


def test_models_do_not_know_each_other():
    for name, path in MODULES.items():
        if name.parts[0] == "models" and path.name not in (
            "__init__.py",
            "registry.py",
            "saved.py",
        ):
            known = {
                name.split(".")[2] for name in imports(path) if name.startswith("limner.models.")
            }
            assert known <= MACHINERY, path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("limner", ("torch", "matplotlib", "gradio", "numpy")),
        ("limner.models", ("matplotlib", "gradio", "limner.data", "limner.training")),
    ],
)
def test_importing_is_cheap(module, absent):
    code = f"import sys, {module}; print(*set({absent}) & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_every_public_name_is_there():
    for name in limner.__all__:
        assert getattr(limner, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        limner.nothing  # noqa: B018
