"""`limner.push` and `hub:owner/name`, against a server on this machine."""

import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub as library
import pytest
import torch
from PIL import Image

import limner
from limner import InputError, VAEConfig
from limner.cli import main
from limner.config import RunConfig
from limner.data import DataConfig
from limner.hub import Address
from limner.sharing.card import escaped
from limner.sharing.contents import last_part
from limner.training import Run, train

constants = importlib.import_module("huggingface_hub.constants")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the library's
NAME = "owner/digits-vae"


def same(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def tiny(**changes):
    config = RunConfig(
        model=VAEConfig(hidden_dims=(8,), latent_dim=2),
        data=DataConfig(name="digits"),
        epochs=1,
        evaluate_samples=2,
        device="cpu",
    )
    return config.with_(**changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An evaluated run on images in a private folder, which started from a private run."""
    secret = tmp_path_factory.mktemp("secret-place")
    train(tiny(), secret / "first")
    (secret / "faces").mkdir()
    for label in range(60):
        image = torch.randint(0, 256, (8, 8), dtype=torch.uint8).numpy()
        Image.fromarray(image).save(secret / "faces" / f"{label}.png")
    config = tiny(
        data=DataConfig(name=str(secret / "faces"), root=secret, binarization="dynamic"),
        start_from=str(secret / "first"),
    )
    run = train(config, secret / "run")
    assert main(["evaluate", str(run.path), "--num-samples", "2"]) == 0
    return run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_pushed_run_is_loaded_bit_for_bit(trained, hub):
    assert limner.push(trained.path, NAME) == f"{hub.url}/{NAME}"
    assert same(limner.load(f"hub:{NAME}", device="cpu"), trained.model())
    run = Run.open(f"hub:{NAME}")
    assert (run.name, run.out) == ("digits-vae", Path("runs/hub") / NAME)
    assert run.results()["elbo"] == trained.results()["elbo"]
    assert set(hub.latest(NAME)) == {
        ".gitattributes",
        "README.md",
        "config.json",
        "model.safetensors",
        "results.json",
        "samples.png",
    }


def test_nothing_that_is_published_names_a_place_on_this_machine(trained, hub):
    limner.push(trained, NAME)
    place = str(trained.path.parent)
    for name, content in hub.latest(NAME).items():
        assert b"secret" not in content, name
        assert place.encode() not in content, name
    config = json.loads(hub.latest(NAME)["config.json"])
    assert config["data"]["name"] == "faces"
    assert config["data"]["root"] is config["start_from"] is None
    assert set(trained.results()) - set(json.loads(hub.latest(NAME)["results.json"])) == {
        "data",
        "images",
        "skipped",
        "started_from",
    }


def test_the_card_says_what_the_model_is_and_how_good(trained, hub):
    limner.push(trained, NAME, license="cc-by-4.0")
    card = library.ModelCard(hub.latest(NAME)["README.md"].decode())
    assert card.data.to_dict() == {
        "license": "cc-by-4.0",
        "library_name": "limner",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["variational-autoencoder", "latent-variable-model", "vae"],
    }
    elbo = trained.results()["elbo"]
    figure = f"| -ELBO | {-elbo['mean']:.2f} ± {elbo['stderr']:.2f} |"
    maker = trained.made()[0]
    for words in (
        figure,
        "-L_2",
        "![64 mean images from the prior, not chosen](samples.png)",
        f'limner.load("hub:{NAME}")',
        "the weights of first, which are not published here",
        "- Epochs: 1, in ",
        maker.torch.replace(".", "\\.").replace("+", "\\+"),
        '"hidden_dims": [\n      8\n    ]',
        "cc-by-4\\.0",
    ):
        assert words in card.text, words
    samples = Image.open(io.BytesIO(hub.latest(NAME)["samples.png"]))
    assert min(samples.size) > 600
    assert len(samples.getcolors(2**20) or ()) > 10


def test_a_model_and_a_saved_model_are_published_without_a_run(hub, tmp_path):
    model = limner.VAE(VAEConfig(hidden_dims=(8,), latent_dim=2), (3, 6, 4)).train()
    model.save("faces")
    fit = SimpleNamespace(run=None, model=model)
    for index, what in enumerate((model, "faces", fit)):
        limner.push(what, f"owner/model-{index}")
        assert same(limner.load(f"hub:owner/model-{index}"), model)
        files = hub.latest(f"owner/model-{index}")
        assert {"model.json", "model.safetensors"} < set(files)
        assert b"It was not evaluated" in files["README.md"]
        assert b"No license is stated" in files["README.md"]
    assert model.training
    with pytest.raises(InputError, match="A dict cannot be pushed; give a run"):
        limner.push({}, NAME)


def test_a_version_has_a_branch_a_commit_and_no_file_of_the_one_before(trained, hub):
    limner.push(trained, NAME)
    first = hub.repositories[NAME].branches["main"]
    model = limner.VAE(VAEConfig(hidden_dims=(3,), latent_dim=2), (1, 8, 8))
    limner.push(model, NAME)
    assert "results.json" not in hub.latest(NAME)
    assert same(limner.load(f"hub:{NAME}"), model)
    assert same(limner.load(f"hub:{NAME}", revision=first), trained.model())
    assert same(limner.load(f"hub:{NAME}@{first}"), trained.model())
    limner.push(trained, NAME, revision="v2", commit_message="more")
    assert same(limner.load(f"hub:{NAME}", revision="v2"), trained.model())
    assert same(limner.load(f"hub:{NAME}"), model)
    with pytest.raises(InputError, match="has no revision 'v3'"):
        limner.load(f"hub:{NAME}", revision="v3")


def test_a_private_repository_needs_a_token_and_stays_private(trained, hub, monkeypatch, capfd):
    limner.push(trained, NAME, private=True)
    assert hub.repositories[NAME].private
    assert same(limner.load(f"hub:{NAME}"), trained.model())
    limner.push(trained, "owner/open")
    before = hub.latest("owner/open")
    with pytest.raises(InputError, match="exists and is public; make it private"):
        limner.push(trained, "owner/open", private=True)
    assert hub.latest("owner/open") == before
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match="no model owner/digits-vae on the Hub that you have acc"):
        limner.load(f"hub:{NAME}")
    with pytest.raises(InputError, match=r"refuses access to owner/new .*log in with hf auth"):
        limner.push(trained, "owner/new")
    monkeypatch.setenv("HF_TOKEN", "hf_owner")
    with pytest.raises(InputError, match=r"refuses access to other/name .*log in"):
        limner.push(trained, "other/name")
    assert "hf_owner" not in "".join(capfd.readouterr())


def test_a_gated_or_unknown_model_is_explained(trained, hub):
    limner.push(trained, NAME)
    hub.repositories[NAME].gated = True
    with pytest.raises(InputError, match="is gated; accept its conditions"):
        limner.load(f"hub:{NAME}")
    with pytest.raises(InputError, match="There is no model owner/nothing on the Hub"):
        limner.load("hub:owner/nothing")


def test_without_a_connection_the_copy_in_the_cache_is_used(trained, hub, monkeypatch, capfd):
    limner.push(trained, NAME)
    commit = hub.repositories[NAME].branches["main"]
    limner.load(f"hub:{NAME}")
    count = len(hub.requests)
    limner.load(f"hub:{NAME}@{commit}")
    assert len(hub.requests) == count, "a commit in the cache needs no request"
    gone = "http://127.0.0.1:1"
    monkeypatch.setattr(constants, "ENDPOINT", gone)
    assert same(limner.load(f"hub:{NAME}"), trained.model())
    assert "The copy of hub:owner/digits-vae in the cache is used" in capfd.readouterr().err
    with pytest.raises(InputError, match=r"The Hub cannot be reached \(ConnectError\)"):
        limner.load("hub:owner/other")
    library.close_session()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(limner.load(f"hub:{NAME}"), trained.model())
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        limner.load("hub:owner/other")


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'limner\[hub\]'"):
        limner.load(f"hub:{NAME}")
    with pytest.raises(InputError, match=r"pip install 'limner\[hub\]'"):
        limner.push("faces", NAME)


def test_commands_take_a_model_of_the_hub(trained, hub, capsys):
    assert main(["push", str(trained.path), NAME, "--license", "mit"]) == 0
    assert capsys.readouterr().out.strip() == f"{hub.url}/{NAME}"
    assert main(["sample", f"hub:{NAME}", "--n", "4"]) == 0
    assert Path("runs/hub", NAME, "figures", "samples-seed-0.png").is_file()
    assert main(["sample", "hub:owner/nothing"]) == 2
    assert "There is no model owner/nothing" in capsys.readouterr().err


def test_training_starts_from_a_model_of_the_hub_which_evaluation_does_not_ask_for(
    trained, hub, tmp_path
):
    limner.push(trained, NAME)
    config = trained.config.with_(start_from=f"hub:{NAME}", data=DataConfig(name="digits"))
    run = train(config, tmp_path / "next")
    count = len(hub.requests)
    assert main(["evaluate", str(run.path), "--num-samples", "2"]) == 0
    assert len(hub.requests) == count
    limner.push(run, "owner/next")
    assert json.loads(hub.latest("owner/next")["config.json"])["start_from"] == f"hub:{NAME}"
    assert "weights of hub\\:owner\\/digits-vae" in hub.latest("owner/next")["README.md"].decode()


def test_figures_of_other_weights_are_not_published(trained, hub, tmp_path):
    run = shutil.copytree(trained.path, tmp_path / "run")
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"validation_elbo": -1.0}))
    with pytest.raises(InputError, match="was trained further since its evaluation"):
        limner.push(run, NAME)
    assert hub.repositories == {}


def test_a_note_on_the_figures_is_published_without_places(trained, hub, tmp_path):
    run = shutil.copytree(trained.path, tmp_path / "run")
    results = json.loads((run / "results.json").read_text())
    note = f"3 images of {results['dataset']} were trained on, see /home/me/a.png or C:\\me\\b.png."
    (run / "results.json").write_text(json.dumps(results | {"note": note}))
    limner.push(run, NAME)
    published = json.loads(hub.latest(NAME)["results.json"])
    assert published["note"] == "3 images of faces were trained on, see a.png or b.png."
    assert b"Note: 3 images of faces were trained on" in hub.latest(NAME)["README.md"]


def test_texts_of_a_stranger_are_shown_as_text(trained, hub, tmp_path):
    """Nothing in a run folder becomes a link, HTML, a table cell or metadata of the card."""
    evil = "x](https://evil.example) <img src=x onerror=alert(1)> | `a` **b**\n---\ntags: [evil]"
    results = json.loads((trained.path / "results.json").read_text())
    for key in ("dataset", "split", "binarization"):
        results[key] = evil
    makers = [maker.model_dump() | {"hardware": evil} for maker in trained.made()]
    run = shutil.copytree(trained.path, tmp_path / "run")
    (run / "results.json").write_text(json.dumps(results))
    (run / "made.json").write_text(json.dumps(makers))
    limner.push(run, NAME)
    text = hub.latest(NAME)["README.md"].decode()
    card = library.ModelCard(text)
    assert "evil" not in card.data.tags
    prose = re.sub(r"^```.*?^```", "", card.text, flags=re.DOTALL | re.MULTILINE)
    plain = re.sub(r"\\[!-/:-@\[-`{-~]", "", prose)
    for mark in ("<", "](http", "**", "://", "evil.example"):
        assert mark not in plain, mark
    assert "onerror" in prose


@pytest.mark.parametrize("marks", ["[a](b)", "<b>", "a|b", "`x`", "# h", "![i](j)", "@me", "&lt;"])
def test_escaped_text_has_no_marks(marks):
    plain = re.sub(r"\\.", "", escaped(f"{marks}\n{marks}"))
    assert not set(plain) & set("[]<>|`#!@&*_~\n")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/me/faces", "faces"),
        (r"C:\Users\me\faces", "faces"),
        ("faces.npz", "faces.npz"),
        ("../..", "images"),
        ("~/a/", "a"),
    ],
)
def test_a_path_is_published_by_its_last_part(path, name):
    assert last_part(path) == name


@pytest.mark.parametrize(
    "text",
    [
        "hub:",
        "hub:name",
        "hub:a/b/c",
        "hub:../b",
        "hub:a/..",
        "hub:a/b@",
        "hub:a/b@../x",
        "hub:-a/b",
        "hub:a/b@-x",
        "hub:a/b?x",
        "hub:/etc/passwd",
        "hub:a/b\n",
    ],
)
def test_what_is_no_address_is_refused_before_any_request(text, hub):
    with pytest.raises(InputError, match="is not"):
        limner.load(text)
    assert hub.requests == []


def test_an_address_has_one_revision():
    assert Address.parse("hub:a/b@v1") == Address.parse("hub:a/b", "v1") == ("a/b", "v1")
    assert Address.parse("hub:a/b@refs/pr/1").revision == "refs/pr/1"
    with pytest.raises(InputError, match="is another one"):
        Address.parse("hub:a/b@v1", "v2")


def test_an_existing_folder_wins_over_the_hub(hub):
    limner.VAE(VAEConfig(hidden_dims=(8,), latent_dim=2), (1, 6, 4)).save("hub:owner/faces")
    assert limner.load("hub:owner/faces").image_shape == (1, 6, 4)
    assert hub.requests == []


def test_another_process_finds_the_hub_by_its_environment(trained, hub, tmp_path):
    """As a user's: HF_ENDPOINT, HF_HOME and HF_TOKEN are read by the library."""
    code = (
        "import limner, sys\n"
        f"limner.push({str(trained.path)!r}, {NAME!r}, private=True)\n"
        f"model = limner.load('hub:{NAME}', device='cpu')\n"
        "print(model.num_parameters, 'transformers' in sys.modules)"
    )
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_owner",
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [str(trained.model().num_parameters), "False"], done.stderr


def test_the_code_of_the_page_runs(trained, hub):
    page = (Path(__file__).parents[1] / "docs" / "sharing.md").read_text(encoding="utf-8")
    shutil.copytree(trained.path, "runs/faces")
    limner.push("runs/faces", "owner/faces", revision="v2", private=True)
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        exec(compile(block.replace('"cuda"', '"cpu"'), "sharing.md", "exec"), names)
    assert same(names["model"], trained.model())
