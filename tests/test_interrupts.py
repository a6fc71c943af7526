"""Signals during a compilation, which takes too long to be waited for."""

import signal

import pytest
import torch

from limner.config import RunConfig
from limner.data import DataConfig
from limner.errors import Stopped
from limner.models import VAEConfig
from limner.storage import load_tensors
from limner.training import train
from limner.training.interrupts import CompilationStopped, StopSignals
from limner.training.stepper import Stepper
from limner.training.trainer import Trainer

CONFIG = RunConfig(
    model=VAEConfig(hidden_dims=(16,), latent_dim=2),
    data=DataConfig(name="digits"),
    epochs=2,
    compile="never",
    device="cpu",
)


def compiling(signum):
    """Receive a signal inside the compiler."""
    names = {"__name__": "torch._dynamo.convert_frame", "signal": signal}
    exec("def convert(signum): signal.raise_signal(signum)", names)
    names["convert"](signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_compilation_is_interrupted_by_the_first_signal(signum):
    with StopSignals(stops_compiling=True) as signals:
        with pytest.raises(CompilationStopped):
            compiling(signum)
        assert signals.received == signum


def test_several_processes_end_the_step_together(capsys):
    with StopSignals() as signals:
        compiling(signal.SIGINT)
        assert signals.received == signal.SIGINT
    assert "Stopping after this step" in capsys.readouterr().err


def test_a_training_stopped_in_a_compilation_is_saved_and_resumes_to_the_same_bits(
    tmp_path, monkeypatch, capsys
):
    whole = train(CONFIG, tmp_path / "whole")
    step = Stepper._gradient

    def compiles_late(stepper, *arguments):
        terms = step(stepper, *arguments)
        if stepper.step == 5:
            compiling(signal.SIGINT)
        return terms

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "_gradient", compiles_late)
        with pytest.raises(Stopped, match="--resume"):
            train(CONFIG, tmp_path / "run")
    assert "failed" not in capsys.readouterr().err
    resumed = train(CONFIG, tmp_path / "run", resume=True)
    expected, found = (load_tensors(run.path / "model.safetensors")[0] for run in (whole, resumed))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_compiler_that_ctrl_c_ended_has_not_failed(tmp_path, monkeypatch, capsys):
    """Ctrl-C on a terminal also reaches the compiler's processes; several of Limner go on."""
    step = Stepper._gradient

    def interrupted(stepper, *arguments):
        if stepper.model.compiled:
            signal.raise_signal(signal.SIGINT)
            raise OSError("the compiler ended")
        return step(stepper, *arguments)

    def compiled(trainer, display, signals):
        trainer.model.compiled = True
        advance(trainer, display, signals)

    advance = Trainer.advance
    monkeypatch.setattr(Stepper, "_gradient", interrupted)
    monkeypatch.setattr(Trainer, "advance", compiled)
    with pytest.raises(Stopped):
        train(CONFIG, tmp_path / "run")
    assert "failed" not in capsys.readouterr().err
