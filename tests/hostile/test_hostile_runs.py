"""Untrusted run folders: nothing in them is executed, and damage is reported."""

import json
import os
import pickle
import shutil
import struct

import pytest
import torch
from hostility import EXTREMES, altered, cases, damaged, json_values, refusal, refused
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from limner import data, load
from limner.cli import main
from limner.commands.evaluate import Options, evaluate_run
from limner.config import RunConfig
from limner.evaluation.comparison import compare_runs, comparison_table
from limner.figures import curves
from limner.figures.gallery import _kl
from limner.figures.subject import Subject
from limner.models import LadderVAEConfig
from limner.report import sections, table
from limner.report.verdict import verdict
from limner.storage import load_tensors, read_document, save_tensors
from limner.training import train
from limner.training.runs import Run

SHAPE = (1, 8, 8)
DATA = data.DataConfig(name="digits")
MODEL = LadderVAEConfig(hidden_dims=(4, 3), latent_dims=(2, 2))
CONFIG = RunConfig(model=MODEL, data=DATA, epochs=1, batch_size=1000, device="cpu")
JSON = ("config.json", "results.json", "metrics.jsonl")
WEIGHTS = (
    "model.safetensors",
    "checkpoints/best.safetensors",
    "checkpoints/last.safetensors",
    "checkpoints/training.safetensors",
    "per_image.safetensors",
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A run that was trained and evaluated."""
    run = train(CONFIG, tmp_path_factory.mktemp("sound") / "run")
    evaluate_run(run, Options(num_samples=2))
    return run.path


@pytest.fixture
def run(sound, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(sound, tmp_path / "run")


def use(path):
    """What commands take from a run, short of drawing it."""
    run = Run.open(path)
    for checkpoint in ("best", "last"):
        with torch.no_grad():
            assert run.model(checkpoint).sample(1).shape == (1, *SHAPE)
    run.dataset()
    run.metrics()
    if run.results():
        rows = compare_runs({"run": [run]})
        comparison_table(rows, "one")
        table.table(rows)
        verdict(rows, [run.results() or {}])
        sections.numbers(run.results() or {})


def resume(path):
    run = Run.open(path)
    train(run.config, path, resume=True)


def test_a_sound_run_is_used(run):
    use(run)
    resume(run)


@pytest.mark.parametrize("name", JSON + WEIGHTS)
def test_any_damage_to_a_file_of_a_run_is_told_or_harmless(name, run):
    good = (run / name).read_bytes()

    @cases(12)
    @given(content=damaged(good) | st.binary(max_size=200))
    def check(content):
        (run / name).write_bytes(content)
        refusal(lambda: use(run))

    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", JSON + WEIGHTS)
def test_much_damage_to_a_file_of_a_run_is_told_or_harmless(name, run):
    good = (run / name).read_bytes()

    @cases(25)
    @given(content=damaged(good) | damaged(good[:300]))
    def check(content):
        (run / name).write_bytes(content)
        refusal(lambda: use(run))

    check()


@pytest.mark.parametrize("name", JSON)
def test_any_other_document_is_told_or_harmless(name, run):
    good = json.loads((run / name).read_bytes())

    @cases(25)
    @given(document=altered(good))
    def check(document):
        (run / name).write_text(json.dumps(document))
        refusal(lambda: use(run))

    check()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Attempting to set identical")
def test_any_metrics_that_are_read_can_be_drawn(run):
    good = json.loads((run / "metrics.jsonl").read_bytes())

    @cases(40)
    @given(documents=st.lists(altered(good) | st.just(good), min_size=1, max_size=3))
    def check(documents):
        (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, documents)))
        if not refusal(lambda: Run.open(run).metrics()):
            drawn(run)

    check()


def drawn(path):
    """Curves and the heat map of all groups."""
    metrics = Run.open(path).metrics()
    curves.training_curves(metrics)
    curves.compared_curves({"run": metrics})
    model = Run.open(path).model()
    _kl(Subject(model, Run.open(path).dataset(), metrics))


def test_metrics_with_figures_that_were_not_finite_are_shown_with_gaps(run):
    line = json.loads((run / "metrics.jsonl").read_text())
    nothing = dict.fromkeys(line["validation"])
    gap = line | {"epoch": 2.0, "train": nothing, "validation": nothing}
    (run / "metrics.jsonl").write_text(
        "\n".join(map(json.dumps, [line, gap, line | {"epoch": 3.0}]))
    )
    use(run)
    drawn(run)
    (run / "metrics.jsonl").unlink()
    results = json.loads((run / "results.json").read_text())
    unknown = dict.fromkeys(["training_seconds", "images_per_second", "epochs"])
    (run / "results.json").write_text(json.dumps(results | unknown))
    use(run)


# Weights


def header(document, content=b""):
    text = json.dumps(document).encode() if isinstance(document, dict) else document
    return struct.pack("<Q", len(text)) + text + content


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
META = {"document": '{"image_shape": [1, 8, 8]}', "sha256": "0" * 64}
BAD_HEADERS = {
    "nothing": b"",
    "short": b"\1",
    "huge length": struct.pack("<Q", 2**63) + b"{}",
    "all ones": b"\xff" * 64,
    "longer than the file": struct.pack("<Q", 99_000_000) + b"{}",
    "no JSON": header(b"{'a': 1}"),
    "deep": header(b'{"a":' * 50_000),
    "nan": header(b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 4]}}', bytes(4)),
    "twice": header(b'{"__metadata__": {}, "__metadata__": {"document": "{}"}}'),
    "overlap": header({"a": ONE, "b": ONE}, bytes(4)),
    "hole": header({"a": ONE, "b": ONE | {"data_offsets": [8, 12]}}, bytes(12)),
    "outside": header({"a": ONE | {"data_offsets": [0, 2**62]}}, bytes(4)),
    "backwards": header({"a": ONE | {"data_offsets": [4, 0]}}, bytes(4)),
    "negative": header({"a": ONE | {"shape": [-1]}}, bytes(4)),
    "overflow": header({"a": ONE | {"shape": [2**62, 2**62]}}, bytes(4)),
    "dtype": header({"a": ONE | {"dtype": "O"}}, bytes(4)),
    "no document": header({"a": ONE, "__metadata__": {}}, bytes(4)),
    "checksum": header({"a": ONE, "__metadata__": META}, bytes(4)),
    "pickle": pickle.dumps({"a": 1}),
    "archive": b"PK\3\4" + bytes(60),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_headers_of_weights_that_lie_are_refused(case, run):
    for name in WEIGHTS[:3]:
        (run / name).write_bytes(BAD_HEADERS[case])
    refused(lambda: load_tensors(run / WEIGHTS[0]), "damaged")
    refused(lambda: load(run))
    refused(lambda: load(run, "last"))


@pytest.mark.parametrize(
    "text", ["[]", "null", "1", '"a"', "", "{", "[" * 10**5, "1" * 5000, '{"image_shape": 8}']
)
def test_documents_of_weights_that_are_none_are_refused(text, run):
    tensors, _ = load_tensors(run / WEIGHTS[1])
    (run / WEIGHTS[0]).unlink()  # which would stand in for it
    (run / WEIGHTS[1]).write_bytes(
        save(tensors, {"document": text, "sha256": sealed(tensors, text)})
    )
    refused(lambda: load(run), "damaged")
    if not text.startswith("{"):
        refused(lambda: read_document(run / WEIGHTS[1]), "damaged")


def sealed(tensors, text):
    """The checksum that a forger would write."""
    from limner.storage import _digest

    return _digest(tensors, text)


@cases(40)
@given(shape=st.lists(st.integers(-2, 2**70), max_size=5) | json_values)
def test_any_image_shape_is_the_models_or_refused(shape, sound, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "shaped"
    path.mkdir(exist_ok=True)
    shutil.copy(sound / "config.json", path)
    tensors, _ = load_tensors(sound / WEIGHTS[0])
    save_tensors(path / "model.safetensors", tensors, {"image_shape": shape})
    sentence = refusal(lambda: load(path))
    assert sentence or shape == list(SHAPE)


FORGED = {
    "more": lambda name, tensor: [(name, tensor), (f"{name}.more", tensor)],
    "fewer": lambda name, tensor: [] if "bias" in name else [(name, tensor)],
    "renamed": lambda name, tensor: [(name.replace("up", "__class__"), tensor)],
    "path": lambda name, tensor: [(name.replace("ema.", "ema.../../"), tensor)],
    "wider": lambda name, tensor: [(name, torch.stack([tensor, tensor]))],
    "flat": lambda name, tensor: [(name, tensor.flatten())],
    "double": lambda name, tensor: [(name, tensor.double())],
    "whole": lambda name, tensor: [(name, tensor.long())],
    "complex": lambda name, tensor: [(name, tensor.to(torch.complex64))],
    "nothing": lambda name, tensor: [],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", FORGED)
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_another_form_are_refused(case, name, run):
    """With a checksum that fits: it tells of accidents, not of forgers."""
    tensors, document = load_tensors(run / name)
    forged = [pair for item in tensors.items() for pair in FORGED[case](*item)]
    save_tensors(run / name, dict(forged), document)
    if name == WEIGHTS[0]:
        (run / WEIGHTS[1]).unlink()
    if name == WEIGHTS[3]:
        (run / WEIGHTS[3].replace("training", "training.previous")).unlink(missing_ok=True)
    harmless = case in ("more", "double") and name == WEIGHTS[4]
    harmless |= case in ("renamed", "path") and name in WEIGHTS[3:]
    sentence = refusal(lambda: resume(run) if name == WEIGHTS[3] else use(run))
    assert bool(sentence) != harmless or name in WEIGHTS[3:]


COUNTERS = ("epoch", "index", "step", "seconds", "metrics_bytes", "best_bound", "more")


@pytest.mark.slow
@cases(40)
@given(values=st.dictionaries(st.sampled_from(COUNTERS), json_values, min_size=1))
def test_counters_of_a_training_are_checked(values, sound, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "counted"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(sound, path)
    (path / "checkpoints/training.previous.safetensors").unlink(missing_ok=True)
    tensors, document = load_tensors(path / WEIGHTS[3])
    save_tensors(path / WEIGHTS[3], tensors, document | values)
    refusal(lambda: resume(path))


# The folder


NO_FILES = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "loop": lambda path: path.symlink_to(path),
    "zeros": lambda path: path.symlink_to("/dev/zero"),
    "memory": lambda path: path.symlink_to("/proc/self/mem"),
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("name", JSON + WEIGHTS)
def test_what_is_no_file_is_refused_and_nothing_waits(name, make, run):
    (run / name).unlink()
    if name == WEIGHTS[0]:
        (run / WEIGHTS[1]).unlink()
    make(run / name)
    refusal(lambda: resume(run) if name == WEIGHTS[3] else use(run))


TEMPORARY = f".metrics.jsonl.{os.getpid()}.tmp"
NAMES = ["lock", "metrics", "config", "temporary"]


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "config.json", TEMPORARY], ids=NAMES)
@pytest.mark.parametrize("exists", [True, False])
def test_nothing_is_written_through_a_link(name, exists, run, tmp_path):
    """A folder from elsewhere must not make Limner write to files of the one who opens it."""
    diary = tmp_path / "diary"
    if exists:
        diary.write_text("my own")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(diary)
    refusal(lambda: resume(run))
    refusal(lambda: Run.create(run, CONFIG, overwrite=True))
    assert diary.read_text() == "my own" if exists else not diary.exists()


def test_a_pipe_for_a_lock_does_not_wait(run):
    (run / ".lock").unlink()
    os.mkfifo(run / ".lock")
    resume(run)


def test_a_run_whose_checkpoints_are_elsewhere_can_be_replaced(run, tmp_path):
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    Run.create(run, CONFIG, overwrite=True)
    assert list((tmp_path / "elsewhere").iterdir())
    assert not (run / "checkpoints").is_symlink()


@cases(100)
@given(name=st.text(max_size=20) | st.text("a/.~\0\n\x1b\ud800", min_size=1, max_size=400))
def test_any_name_of_a_run_is_opened_or_refused(name):
    refused(lambda: Run.open(f"none/{name}"))


@pytest.mark.parametrize("command", ["evaluate", "report", "compare", "figures", "sample", "play"])
def test_commands_tell_of_a_hostile_run_in_one_line(command, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(run / "checkpoints")  # they know the config
    (run / "model.safetensors").unlink()
    for content in (b"\x80\x04.", b"{}", b"[" * 10**5, b'{"schema_version": "\x1b[2J\\n"}'):
        (run / "config.json").write_bytes(content)
        capsys.readouterr()
        assert main([command, str(run)]) == 2
        told = capsys.readouterr().err
        assert told.startswith("limner: ")
        assert told.count("\n") == 1
        assert told.rstrip("\n").isprintable()


def test_extremes_in_every_place_of_small_weights_are_told(tmp_path):
    save_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)}, {"image_shape": SHAPE})
    good = (tmp_path / "a.safetensors").read_bytes()
    for start in range(0, len(good) - 8, 3):
        for piece in EXTREMES:
            content = good[:start] + piece + good[start + len(piece) :]
            (tmp_path / "a.safetensors").write_bytes(content)
            refusal(lambda: load_tensors(tmp_path / "a.safetensors"))
