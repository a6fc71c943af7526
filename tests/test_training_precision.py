"""The precision of a training: refused where a device lacks it, set for its duration alone."""

from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch

import limner
from limner import InputError
from limner.models import VAEConfig
from limner.training import launch, precision
from limner.training.precision import check_precision, products_in

MATMUL = torch.backends.cuda.matmul
MODEL = VAEConfig(hidden_dims=(8,), latent_dim=2)


@pytest.fixture
def restored():
    """torch's switches come back after a test that sets them."""
    yield
    torch.set_float32_matmul_precision("highest")
    MATMUL.fp32_precision = "none"


def switches():
    """Both interfaces to the switch; the old one cannot be read if they disagree."""
    try:
        return MATMUL.fp32_precision, MATMUL.allow_tf32
    except RuntimeError:
        return MATMUL.fp32_precision, None


def by_new(value):
    MATMUL.fp32_precision = value


def by_old(value):
    MATMUL.allow_tf32 = value


def by_both():
    torch.set_float32_matmul_precision("high")
    MATMUL.fp32_precision = "ieee"


@pytest.mark.parametrize(
    "prepare",
    [
        lambda: None,
        lambda: by_new("ieee"),
        lambda: by_new("tf32"),
        lambda: by_old(False),
        lambda: by_old(True),
        lambda: torch.set_float32_matmul_precision("medium"),
        by_both,
    ],
)
@pytest.mark.usefixtures("restored")
def test_tf32_is_on_inside_and_as_before_after(prepare):
    prepare()
    before = switches()
    with suppress(KeyError), products_in("tf32"):
        assert MATMUL.fp32_precision == "tf32"
        if before[1] is not None:
            assert MATMUL.allow_tf32  # torch.compile reads the old interface
        raise KeyError
    assert switches() == before
    for other in ("float32", "bfloat16"):
        with products_in(other):
            assert switches() == before


@pytest.mark.usefixtures("restored")
def test_a_training_has_tf32_for_its_duration(monkeypatch):
    monkeypatch.setattr(launch, "check_precision", lambda precision, device: None)
    seen = []

    def look(state):
        seen.append(switches())

    limner.fit(MODEL, "digits", epochs=1, precision="tf32", device="cpu", callback=look)
    assert seen == [("tf32", True)]
    assert switches() == ("none", False)


def test_a_device_without_the_precision_is_refused_in_a_sentence(monkeypatch, tmp_path):
    with pytest.raises(InputError, match=r'since Ampere and the device is cpu; pass precision="'):
        limner.fit(MODEL, "digits", epochs=1, precision="tf32", device="cpu", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    check_precision("float32", torch.device("cpu"))
    check_precision("bfloat16", torch.device("cpu"))

    def refuses(*_):
        raise RuntimeError("Current CUDA Device does not support bfloat16.")

    def warns(*_):
        precision.warnings.warn("mps autocast does not support bfloat16", stacklevel=1)

    for autocast in (refuses, warns):
        fake = SimpleNamespace(autocast=autocast, bfloat16=torch.bfloat16)
        monkeypatch.setattr(precision, "torch", fake)
        with pytest.raises(InputError, match="no bfloat16 on mps; pass --precision float32"):
            check_precision("bfloat16", torch.device("mps"))
