"""Every test checks the shapes in signatures of layers, models and bounds."""

import logging
import os
import sys
from time import time
from types import SimpleNamespace
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
collect_ignore = ["faults", "hostile"] if sys.platform == "win32" else []
"""They kill, limit and signal processes in the ways of Unix."""
GPU = torch.cuda.is_available()
torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
os.environ["OMP_NUM_THREADS"] = "1"  # and so in processes that tests start


def pytest_collection_modifyitems(items):
    """Tests marked `gpu` are skipped where there is none."""
    for item in items if not GPU else ():
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU with CUDA"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Images go to a cache of the tests, which all of one process share."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def plain_logging(monkeypatch):
    """Messages go to standard error, also if a library that was imported configured logging."""
    monkeypatch.setattr(logging.root, "handlers", [])
    level = logging.root.level
    logging.root.setLevel(logging.WARNING)
    yield
    logging.root.setLevel(level)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def unchecked():
    """For tests that compile: torch.compile cannot trace the checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on this machine, the library's cache in a folder of the test, and its owner's token."""
    import huggingface_hub
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    from hub_server import Hub

    with Hub() as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
            "HF_HUB_DISABLE_XET": True,
            "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        for module in (file_download, _http):  # between its retries
            monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda _: None, time=time))
        monkeypatch.setenv("HF_TOKEN", "hf_owner")
        yield server
        huggingface_hub.close_session()
