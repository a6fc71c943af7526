"""Models from scripts, notebooks and installed packages work like Limner's own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch

import limner
from limner import InputError, LatentVariableModel, ModelConfig, register
from limner.cli import main
from limner.config import RunConfig
from limner.data import DataConfig
from limner.models import DRAW, VAE, DRAWConfig, VAEConfig, build, kinds, registry
from limner.training import train

PLUGIN = Path(__file__).parent / "plugin"
TRAIN = "--data.name digits --epochs 1 --batch-size 500 --evaluate-samples 2 --device cpu"


class SmallConfig(VAEConfig):
    kind: Literal["small"] = "small"
    factor: int = 1


class Small(VAE):
    config: SmallConfig


@pytest.fixture(autouse=True)
def _own_registry(unchecked):
    """A registry that a test may change, without type checks: wrong types are what is tested."""
    before = dict(registry._registered)
    yield
    registry._registered.clear()
    registry._registered.update(before)


def install(site, name="tiny-vae", kind="tiny-vae", module="tiny_vae", source=None):
    """A package as pip leaves it: its module beside the metadata that holds the entry point."""
    source = source or (PLUGIN / "tiny_vae.py").read_text()
    (site / f"{module}.py").write_text(source)
    metadata = site / f"{name.replace('-', '_')}-0.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text(f"[limner.models]\n{kind} = {module}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder for packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    known = set(sys.modules)
    yield folder
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) == str(folder / f"{name}.py"):
            del sys.modules[name]


def test_registering_gives_back_the_class_and_makes_the_kind_known():
    assert register(Small, SmallConfig) is Small
    assert "small" in kinds()
    run = RunConfig.parse({"model": {"kind": "small", "factor": 3, "latent_dim": 4}, "epochs": 1})
    assert run.model == SmallConfig(factor=3, latent_dim=4)
    assert RunConfig.parse(json.loads(run.to_json())) == run
    assert type(limner.models.build(run.model, (1, 4, 4))) is Small


def test_a_class_may_be_registered_again_and_defined_again():
    register(Small, SmallConfig)
    register(Small, SmallConfig)

    def cell():
        class NoteConfig(VAEConfig):
            kind: Literal["note"] = "note"

        class Note(VAE):
            config: NoteConfig

        return register(Note, NoteConfig), NoteConfig

    _, old = cell()
    new_model, new = cell()
    assert registry.model_class("note") is new_model
    assert RunConfig(model=new(), epochs=1).model == new()
    with pytest.raises(InputError, match=r"limner\.register with NoteConfig"):
        build(old(), (1, 8, 8))


class TakenConfig(VAEConfig):
    kind: Literal["draw"] = "draw"


class NoKindConfig(ModelConfig):
    pass


class TwoKindsConfig(ModelConfig):
    kind: Literal["a", "b"] = "a"


class ShoutingConfig(ModelConfig):
    kind: Literal["My Model"] = "My Model"


class RequiredConfig(ModelConfig):
    kind: Literal["required"] = "required"
    width: int


class Unfinished(LatentVariableModel):
    @property
    def group_names(self):
        return ["z"]


@pytest.mark.parametrize(
    ("model", "config", "words"),
    [
        (Small, TakenConfig, "taken by limner.models.draw.DRAW"),
        (Small, dict, "dict is not a subclass of limner.ModelConfig"),
        (Small, SmallConfig(), "is not a subclass of limner.ModelConfig"),
        (Small, NoKindConfig, "NoKindConfig needs a field kind"),
        (Small, TwoKindsConfig, "TwoKindsConfig needs a field kind"),
        (Small, ShoutingConfig, "not a plain name"),
        (Small, RequiredConfig, "RequiredConfig needs a default for width"),
        (torch.nn.Linear, SmallConfig, "Linear is not a subclass of limner.LatentVariableModel"),
        (SmallConfig, Small, "SmallConfig is not a subclass of limner.LatentVariableModel"),
        (
            Unfinished,
            SmallConfig,
            "Unfinished is not complete; it needs _generate, _infer, _output_bias, latent_shapes",
        ),
    ],
)
def test_what_cannot_be_registered_is_refused_in_a_sentence(model, config, words):
    with pytest.raises(InputError) as refused:
        register(model, config)
    assert words in str(refused.value)
    assert str(refused.value).endswith(".")
    assert registry.model_class("draw") is DRAW


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"kind": "draww"}, "no model 'draww'; did you mean draw? There are vae, ladder-vae, draw"),
        ({"kind": "small"}, "import the module that registers it or install its package"),
        ({"kind": "draw", "num_steps": 0}, "DRAWConfig.num_steps must be greater than 0; got 0."),
        ({"kind": "draw", "steps": 3}, "DRAWConfig has no setting 'steps'"),
        ({"num_steps": 3}, "by a mapping with its kind; got {'num_steps': 3}"),
        ("draw", "by a mapping with its kind; got 'draw'"),
    ],
)
def test_a_run_refuses_a_wrong_model_in_a_sentence(model, words):
    with pytest.raises(InputError) as refused:
        RunConfig(model=model, epochs=1)
    assert words in str(refused.value)
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize("config", [SmallConfig(), TakenConfig()])
def test_a_run_refuses_a_config_that_is_not_registered(config, tmp_path):
    with pytest.raises(InputError, match=f"limner.register with {type(config).__name__}"):
        train(RunConfig(model=config, data=DataConfig(name="digits"), epochs=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_help_shows_the_flags_of_the_model_that_is_named(capsys):
    def flags(*words):
        with pytest.raises(SystemExit):
            main(["train", *words, "--help"])
        return capsys.readouterr().out

    register(Small, SmallConfig)
    assert "--model.factor" in flags("small")
    assert "--model.num-steps" not in flags("vae")
    assert "--model.num-steps" in flags("draw")
    assert "--model.num-steps" in flags("--recipe", "draw")
    general = flags()
    assert "--model." not in general
    assert "--epochs" in general
    assert "small" in general


def test_an_installed_package_is_imported_for_its_own_model_only(site):
    install(site)
    install(site, "broken", "broken", "broken_model", "import nothing_like_this")
    assert {"tiny-vae", "broken"} <= set(kinds())
    assert RunConfig(model=DRAWConfig(), epochs=1).model == DRAWConfig()
    assert not {"tiny_vae", "broken_model"} & set(sys.modules)
    with pytest.raises(InputError, match=r"'broken' of the package broken .* ModuleNotFoundError"):
        RunConfig.parse({"model": {"kind": "broken"}, "epochs": 1})
    config = RunConfig.parse({"model": {"kind": "tiny-vae"}, "epochs": 1}).model
    assert type(config).__module__ == "tiny_vae"


def test_a_package_that_does_not_register_its_model_is_named(site):
    install(site, "silent", "silent", "silent_model", "answer = 42")
    with pytest.raises(InputError, match=r"silent names silent_model .* call limner\.register"):
        registry.model_class("silent")


def test_two_packages_with_one_kind_are_named(site):
    for name in ("one", "two"):
        install(site, name, "same", f"{name}_model", "answer = 42")
    with pytest.raises(InputError, match="Several packages provide a model 'same': one, two"):
        registry.model_class("same")


def test_an_installed_model_trains_with_its_own_flags_and_loads(site, tmp_path):
    install(site)
    run = str(tmp_path / "run")
    flags = f"{TRAIN} --model.latent-dim 3 --model.output-scale 0.5 --out {run}"
    assert main(["train", "tiny-vae", *flags.split()]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"] == {
        "observation": "bernoulli",
        "kind": "tiny-vae",
        "hidden_dims": [8],
        "latent_dim": 3,
        "activation": "relu",
        "output_scale": 0.5,
    }
    model = limner.load(run)
    assert type(model).__name__ == "TinyVAE"
    assert model.sample(2).shape == (2, 1, 8, 8)


@pytest.mark.slow
def test_every_command_works_on_a_run_of_an_installed_model(site, tmp_path):
    install(site)
    run = str(tmp_path / "run")
    assert main(["train", "tiny-vae", *TRAIN.split(), "--out", run]) == 0
    assert main(["evaluate", run, "--num-samples", "2"]) == 0
    assert main(["train", "--resume", "--out", run]) == 0
    again = str(tmp_path / "again")
    assert main(["train", "--config", f"{run}/config.json", "--out", again]) == 0
    figures = "--max-images 20 --projection pca --formats png"
    assert main(["figures", run, *figures.split()]) == 0
    assert main(["compare", run, again, "--out", str(tmp_path / "comparison")]) == 0
    assert main(["report", run]) == 0


@pytest.mark.slow
def test_a_new_process_finds_an_installed_model_and_names_one_that_is_missing(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    install(site)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    path = [str(site), *filter(None, [env.get("PYTHONPATH")])]

    def limner_(*words, **changes):
        command = [sys.executable, "-m", "limner.cli", *words]
        return subprocess.run(
            command, cwd=tmp_path, env=env | changes, capture_output=True, text=True, check=False
        )

    installed = {"PYTHONPATH": os.pathsep.join(path)}
    done = limner_("train", "tiny-vae", *TRAIN.split(), "--out", "run", **installed)
    assert done.returncode == 0, done.stderr
    assert limner_("evaluate", "run", "--num-samples", "2", **installed).returncode == 0
    missing = limner_("evaluate", "run")
    assert missing.returncode == 2
    assert "\nlimner: There is no model 'tiny-vae'" in f"\n{missing.stderr}"
    assert "install its package" in missing.stderr


def test_a_config_of_ones_own_does_not_replace_that_of_an_own_model():
    class Other(limner.VAEConfig):
        pass

    with pytest.raises(InputError, match="'vae' is taken by"):
        limner.register(limner.VAE, Other)
    limner.register(limner.VAE, limner.VAEConfig)


@pytest.mark.parametrize(
    "program",
    [
        "from limner.models import *; DRAW, build",
        "import limner; limner.layers.attention.window",
        "import limner; limner.models.draw.DRAW",
        "from limner.data import *; load",
    ],
)
def test_lazy_packages_look_like_others(program):
    subprocess.run([sys.executable, "-c", program], check=True)
