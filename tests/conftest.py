"""Every test checks the shapes in signatures of layers, models and bounds."""

from typing import Self

import jaxtyping
import pytest
import torch
from beartype import beartype


def checked(function):
    """`beartype`, except where it cannot know what `Self` is."""
    returns = getattr(function, "__annotations__", {}).get("return")
    return function if returns is Self else beartype(function)


jaxtyping.install_import_hook(
    ["limner.layers", "limner.models", "limner.objectives"], "conftest.checked"
)
torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Images go to a cache of the tests, which all of one process share."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def unchecked():
    """For tests that compile: torch.compile cannot trace the checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
