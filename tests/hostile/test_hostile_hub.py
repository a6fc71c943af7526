"""Repositories and servers that want more than to share a model."""

import gzip
import json
import zlib

import pytest
import torch

import limner
from hub_server import Hub
from limner import InputError, VAEConfig
from limner.config import RunConfig
from limner.data import DataConfig
from limner.sharing.contents import write_model
from limner.storage import load_tensors, save_tensors
from limner.training import Run

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the library's
NAME = "evil/faces"
ADDRESS = f"hub:{NAME}"


def made():
    torch.manual_seed(1)
    return limner.VAE(VAEConfig(hidden_dims=(6,), latent_dim=2), (1, 6, 4))


@pytest.fixture
def files(tmp_path):
    """The files of a good repository."""
    folder = tmp_path / "good"
    write_model(made(), folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rewritten(files, tmp_path, **changes):
    """The files with other weights or another document, checksums included."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(files["model.safetensors"])
    tensors, document = load_tensors(path)
    document |= changes
    save_tensors(path, tensors, document)
    return files | {
        "model.safetensors": path.read_bytes(),
        "model.json": json.dumps(document).encode(),
    }


def downloads(hub):
    """The names of the files that were downloaded, or asked for."""
    return [path.rpartition("/")[2] for method, path, _ in hub.requests if "/resolve/" in path]


def gets(hub):
    return [path for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path]


def test_only_files_of_limner_are_asked_for(hub, files, tmp_path):
    others = (
        "pytorch_model.bin",
        "model.pkl",
        "../../evil.json",
        "/etc/evil.json",
        "..\\..\\evil.json",
        "sub/model.safetensors",
        "sub/../../config.json",
        "modeling.py",
        "checkpoints/training.safetensors",
        "made.json",
        "metrics.jsonl",
    )
    hub.add(NAME, files | dict.fromkeys(others, b"evil"))
    assert limner.load(ADDRESS).image_shape == (1, 6, 4)
    assert set(downloads(hub)) == {"model.json", "model.safetensors"}
    assert not any("evil" in path.name and path.is_file() for path in tmp_path.parent.rglob("*"))


@pytest.mark.parametrize("missing", ["model.safetensors", "model.json"])
def test_what_is_no_model_of_limner_is_not_downloaded(missing, hub, files):
    hub.add(NAME, {name: content for name, content in files.items() if name != missing})
    with pytest.raises(InputError, match="holds no model of Limner"):
        limner.load(ADDRESS)
    assert downloads(hub) == []


@pytest.mark.parametrize("file", ["model.safetensors", "model.json"])
@pytest.mark.parametrize("where", ["listing", "header"])
def test_large_files_are_refused_before_they_are_downloaded(file, where, hub, files):
    hub.add(NAME, files)
    size = 10**13

    def listed(info):
        for one in info["siblings"]:
            one.pop("size") if where == "header" else one.update(size=size)
        return info

    def reply(handler, content):
        handler.reply(b"", **handler.about | {"X_Linked_Size": str(size)})

    hub.changed_info = listed
    if where == "header":
        hub.replies[file] = reply
    with pytest.raises(
        InputError, match=r"takes 10,000,000,000,000 bytes, more than the .* Limner reads"
    ):
        limner.load(ADDRESS)
    assert gets(hub) == []


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
def test_a_download_ends_when_it_exceeds_the_size_that_was_stated(encoding, hub, files, tmp_path):
    """In chunks of no stated length, or compressed a thousandfold."""
    hub.add(NAME, files)
    sent, most = 0, 2**30

    def reply(handler, content):
        nonlocal sent
        if handler.command == "HEAD":
            return handler.reply(content, **handler.about)
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        if encoding:
            handler.send_header("Content-Encoding", encoding)
        handler.end_headers()
        handler.close_connection = True
        block = bytes(2**22)
        packed = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(block)
        try:
            while sent < most:
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(packed), packed))
                sent += len(block)
                if encoding:  # one stream
                    handler.wfile.write(b"0\r\n\r\n")
                    break
        except OSError:
            pass
        return None

    hub.replies["model.safetensors"] = reply
    with pytest.raises(InputError, match=r"sends more than the .* bytes that it stated"):
        limner.load(ADDRESS)
    assert sent < most
    kept = [path.stat().st_size for path in (tmp_path / "hub-cache").rglob("*") if path.is_file()]
    assert sum(kept) < 10**5


def altered(content):
    """Another byte in the last tensor."""
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("change", [altered, lambda content: content[:-8], lambda content: b""])
@pytest.mark.parametrize("stated", [True, False])
def test_files_that_were_altered_are_refused_and_not_kept(change, stated, hub, files):
    """Whether or not the server states the checksum of the true content."""
    hub.add(NAME, files)

    def unstated(info):
        for one in info["siblings"]:
            one.pop("lfs", None)
        return info

    def reply(handler, content):
        handler.about.pop("X_Linked_Size")
        handler.reply(change(content), **handler.about)

    hub.replies["model.safetensors"] = reply
    if not stated:
        hub.changed_info = unstated
    with pytest.raises(InputError, match=r"is damaged or was altered|cannot be used"):
        limner.load(ADDRESS)
    hub.replies.clear()
    assert limner.load(ADDRESS).image_shape == (1, 6, 4)


def test_other_weights_than_the_listed_ones_are_refused(hub, files, tmp_path):
    """They are sound in themselves."""
    hub.add(NAME, files)
    other = rewritten(files, tmp_path, limner="0.0.9")
    hub.replies["model.safetensors"] = lambda handler, _: handler.reply(
        other["model.safetensors"], **handler.about
    )
    with pytest.raises(InputError, match="was altered on its way"):
        limner.load(ADDRESS)


def test_a_connection_that_breaks_is_an_error_not_a_model(hub, files):
    hub.add(NAME, files)

    def reply(handler, content):
        handler.close_connection = True
        if handler.command == "HEAD":
            return handler.reply(content, **handler.about)
        handler.reply(content[:40], Content_Length=str(len(content)), **handler.about)
        return None

    hub.replies["model.safetensors"] = reply
    with pytest.raises(InputError, match=r"cannot be used|cannot be reached"):
        limner.load(ADDRESS)


@pytest.mark.parametrize("of", ["file", "listing"])
def test_a_redirect_to_another_host_never_gets_the_token(of, hub, files):
    """It is followed, as to a store of large files, and what comes is checked like any content."""
    hub.add(NAME, files)
    with Hub() as other:
        repository = other.add(NAME, files)
        repository.files = hub.repositories[NAME].files

        def away(handler, _content):
            handler.reply(b"", 302, Location=other.url + handler.path, **handler.about)

        if of == "file":
            hub.replies["model.safetensors"] = away
        else:
            hub.info_at = other.url
        assert limner.load(ADDRESS).image_shape == (1, 6, 4)
        assert other.requests
        assert {token for *_, token in other.requests} == {None}
        assert {token for *_, token in hub.requests} == {"hf_owner"}


def test_redirects_without_end_are_an_error(hub, files):
    hub.add(NAME, files)
    hub.replies["model.json"] = lambda handler, _: handler.reply(
        b"", 302, Location=handler.path, **handler.about
    )
    with pytest.raises(InputError, match=r"Hub cannot be reached|cannot be used"):
        limner.load(ADDRESS)


@pytest.mark.parametrize("evil", ["../../evil", "..", "a/b", ""])
def test_no_header_of_the_server_becomes_a_path(evil, hub, files, tmp_path):
    hub.add(NAME, files)

    def reply(handler, content):
        handler.about.pop("X_Linked_ETag", None)
        handler.reply(content, **handler.about | {"ETag": f'"{evil}"'})

    hub.replies["model.json"] = reply
    with pytest.raises(InputError, match="no usable checksum"):
        limner.load(ADDRESS)
    hub.replies.clear()
    hub.changed_info = lambda info: info | {"sha": evil}
    with pytest.raises(InputError, match="does not say which commit"):
        limner.load(ADDRESS)
    assert gets(hub) == []
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize(
    "text",
    ["[" * 10**6, '{"a":' * 10**5, "{}", "null", '{"schema_version": 1}', "\x00", "1" * 10**4],
)
@pytest.mark.parametrize("file", ["model.json", "config.json"])
def test_json_that_is_no_config_is_refused(file, text, hub, files):
    contents = {name: content for name, content in files.items() if name != "model.json"}
    hub.add(NAME, contents | {file: text.encode()})
    with pytest.raises(InputError):
        limner.load(ADDRESS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_shape": [1, 4096, 4096]}, "do not fit"),
        ({"image_shape": [2**70, 1, 1]}, "."),
        ({"model": {"kind": "vae", "hidden_dims": [2**16] * 64}}, "do not fit"),
        ({"model": {"kind": "../../evil"}}, "not registered"),
        ({"model": {"kind": "x\n\x1b[31m"}}, "not registered"),
    ],
)
def test_a_config_that_claims_much_takes_no_memory(changes, message, hub, files, tmp_path):
    hub.add(NAME, rewritten(files, tmp_path, **changes))
    with pytest.raises(InputError, match=message) as refused:
        limner.load(ADDRESS)
    assert str(refused.value).isprintable()


def test_weights_with_nan_are_refused(hub, files, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(files["model.safetensors"])
    tensors, document = load_tensors(path)
    next(iter(tensors.values())).fill_(torch.nan)
    save_tensors(path, tensors, document)
    hub.add(NAME, files | {"model.safetensors": path.read_bytes()})
    with pytest.raises(InputError, match="NaN or infinite"):
        limner.load(ADDRESS)


@pytest.fixture
def run_files(tmp_path):
    """A run whose images lie in a folder that its owner chose for its readers."""
    data = DataConfig(name="digits", root="/etc")
    config = RunConfig(model=made().config, data=data, epochs=1)
    weights = {f"ema.{name}": tensor for name, tensor in made().state_dict().items()}
    document = {"image_shape": [1, 6, 4], "config": config.model_dump(mode="json")}
    save_tensors(tmp_path / "run.safetensors", weights, document)
    return {
        "config.json": config.to_json().encode(),
        "model.safetensors": (tmp_path / "run.safetensors").read_bytes(),
    }


def test_a_run_of_the_hub_reads_no_folder_that_its_owner_names(hub, run_files):
    hub.add(NAME, run_files)
    assert Run.open(ADDRESS).data.root is None
    assert limner.load(ADDRESS).image_shape == (1, 6, 4)


def test_a_config_that_was_altered_is_refused(hub, run_files):
    text = run_files["config.json"].replace(b'"seed": 0', b'"seed": 1')
    assert text != run_files["config.json"]
    hub.add(NAME, run_files | {"config.json": text})
    with pytest.raises(InputError, match=r"config.json of .* was altered"):
        limner.load(ADDRESS)
