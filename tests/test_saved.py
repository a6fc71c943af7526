"""`model.save` and `limner.load`: what is loaded is what was saved, or one sentence."""

import json
from typing import Literal

import pytest
import torch

import limner
from limner import InputError
from limner.models import ModelConfig, registry, saved
from limner.storage import load_tensors, save_tensors

CONFIGS = {
    "vae": limner.VAEConfig(hidden_dims=(6,), latent_dim=2),
    "ladder": limner.LadderVAEConfig(hidden_dims=(6, 5), latent_dims=(3, 2)),
    "draw": limner.DRAWConfig(
        num_steps=2, hidden_dim=5, latent_dim=2, attention="filterbank", write_size=2
    ),
}


def made(kind="vae"):
    torch.manual_seed(1)
    classes = {"vae": limner.VAE, "ladder": limner.LadderVAE, "draw": limner.DRAW}
    return classes[kind](CONFIGS[kind], (1, 6, 4))


def same(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loaded_model_is_the_saved_one(kind, dtype, tmp_path):
    model = made(kind).to(dtype)
    model.save(tmp_path / "new" / "faces")
    state = torch.get_rng_state()
    again = limner.load(tmp_path / "new" / "faces", device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert not again.training
    assert again.config == model.config
    assert again.image_shape == (1, 6, 4)
    assert same(model, again)
    assert {path.name for path in (tmp_path / "new" / "faces").iterdir()} == {
        "model.json",
        "model.safetensors",
    }


def test_a_later_model_replaces_an_earlier_one(tmp_path):
    made("vae").save(str(tmp_path))
    made("draw").save(tmp_path)
    assert same(limner.load(str(tmp_path)), made("draw"))


@pytest.mark.parametrize("at", [0, 1])
def test_an_interrupted_save_leaves_the_earlier_model_or_the_later_one(at, tmp_path, monkeypatch):
    """It stops before the weights are written, or before the config is."""
    made("vae").save(tmp_path)
    writer = ("save_tensors", "write_atomically")[at]

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(saved, writer, stop)
        with pytest.raises(KeyboardInterrupt):
            made("draw").save(tmp_path)
    assert same(limner.load(tmp_path), made(("vae", "draw")[at]))
    made("ladder").save(tmp_path)
    assert same(limner.load(tmp_path), made("ladder"))


def test_other_content_is_never_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files \(notes.txt\); choose an empty"):
        made().save(tmp_path)
    with pytest.raises(InputError, match="is a file; choose another folder"):
        made().save(tmp_path / "notes.txt")
    other = tmp_path / "other"
    other.mkdir()
    save_tensors(other / "model.safetensors", {"w": torch.ones(2)}, {"config": {}})
    with pytest.raises(InputError, match="of something else; choose an empty folder"):
        made().save(other)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["notes.txt"]


def test_a_run_is_not_a_saved_model_nor_the_other_way_round(tmp_path):
    made().save(tmp_path / "faces")
    with pytest.raises(InputError, match=r"is a saved model, .*; load it with limner\.load"):
        limner.training.Run.open(tmp_path / "faces")
    with pytest.raises(InputError, match="one set of weights"):
        limner.load(tmp_path / "faces", checkpoint="last")
    with pytest.raises(InputError, match="Only models of the Hub"):
        limner.load(tmp_path / "faces", revision="main")
    with pytest.raises(InputError, match="no run folder"):
        limner.load("x" * 5000)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(value, tmp_path):
    model = made()
    model.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors, document = load_tensors(weights)
    name = next(iter(dict(model.named_parameters())))
    tensors[name].view(-1)[0] = value
    save_tensors(weights, tensors, document)
    with pytest.raises(InputError, match=rf"{name} in .* NaN or infinite; use other weights"):
        limner.load(tmp_path)
    model.load_state_dict(tensors)
    with pytest.raises(InputError, match=rf"{name} of the model .* NaN or infinite"):
        model.save(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def _edited(**changes):
    def edit(folder):
        document = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(document | changes))

    return edit


def _rewritten(**changes):
    """Both files, so that they agree."""

    def rewrite(folder):
        tensors, document = load_tensors(folder / "model.safetensors")
        save_tensors(folder / "model.safetensors", tensors, document | changes)
        _edited(**changes)(folder)

    return rewrite


def _cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


DAMAGE = {
    "altered config": (_edited(image_shape=[1, 4, 6]), "does not describe"),
    "deep JSON": (lambda folder: (folder / "model.json").write_text("[" * 10**5), "is not JSON"),
    "long JSON": (
        lambda folder: (folder / "model.json").write_text(" " * (2**22 + 1)),
        "longer than any file",
    ),
    "truncated weights": (_cut, "is damaged"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no model.saf"),
    "another shape": (_rewritten(image_shape=[1, 4, 4]), "do not fit its config"),
    "no shape": (_rewritten(image_shape=[0, 4, 4]), "does not describe a model"),
    "huge images": (_rewritten(image_shape=[1, 2**20, 2**20]), "too large"),
    "a later version": (_rewritten(schema_version=2), "schema version 2; this Limner reads 1"),
    "no kind": (_rewritten(model={}), "A model is given by its config"),
    "an unknown kind": (_rewritten(model={"kind": "mine"}), "'mine', which is not registered"),
    "an unknown setting": (_rewritten(model={"kind": "vae", "x": 1}), "no setting 'x'"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_folder_is_refused_in_a_sentence(kind, tmp_path):
    damage, message = DAMAGE[kind]
    made().save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=message):
        limner.load(tmp_path)


def test_a_model_of_a_class_that_is_not_registered_is_saved_and_loaded_once_it_is(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    class MineConfig(limner.VAEConfig):
        kind: Literal["mine"] = "mine"

    class Mine(limner.VAE):
        def __init__(self, config, image_shape):
            super().__init__(config, image_shape)
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    model = Mine(MineConfig(hidden_dims=(6,), latent_dim=2), (1, 6, 4))
    model.save(tmp_path)
    with pytest.raises(InputError, match=r"or call limner\.register with it and its config"):
        limner.load(tmp_path)
    limner.register(Mine, MineConfig)
    assert same(limner.load(tmp_path), model)
    with torch.no_grad():
        model.mask[0] = -torch.inf
    model.save(tmp_path)
    with pytest.raises(InputError, match=r"mask in .* NaN or infinite"):
        limner.load(tmp_path)


def test_a_model_that_would_be_loaded_as_another_is_refused(tmp_path):
    class Mine(limner.VAE):
        pass

    model = made()
    with pytest.raises(InputError, match="Mine is not the registered model of the kind 'vae'"):
        Mine(model.config, model.image_shape).save(tmp_path / "model")
    with pytest.raises(InputError, match=r"float32 or float64; call model\.float\(\)"):
        model.half().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_state_that_no_file_can_hold_is_refused(tmp_path):
    model = made()
    model.register_buffer("odd", torch.zeros(1, dtype=torch.complex128))
    with pytest.raises(InputError, match="odd of the model cannot be saved"):
        model.save(tmp_path / "faces")
    assert issubclass(type(model.config), ModelConfig)


def test_weights_that_no_run_has_are_refused_by_name():
    for options, words in (
        ({"checkpoint": "first"}, "no checkpoint 'first'"),
        ({"weights": "rawx"}, "no kind of weights 'rawx'; did you mean raw"),
    ):
        with pytest.raises(InputError, match=words):
            limner.load("mnist-iwae-vae", **options)
