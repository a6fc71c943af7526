"""The notebooks of the documentation run in a kernel, and a kernel can interrupt a training."""

import ast
import os
import queue
import sys
from contextlib import contextmanager
from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest
from jupyter_client import manager

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
SMALL = {
    "own-pictures": {"epochs": 1, "photo_epochs": 1, "num_samples": 2},
    "draw-paper": {"num_images": 4},
    "comparing-models": {"seeds": (0, 1), "epochs": 1, "draw_epochs": 1, "many": 3},
}
"""Settings in the first code cell, for a quick run."""
PUBLIC = ("limner", "limner.data", "limner.figures", "limner.layers")
OTHERS = {"PIL", "logging", "matplotlib", "numpy", "pathlib", "sklearn", "statistics", "torch"}
pages = pytest.mark.parametrize("page", SMALL)


def notebook(page):
    return jupytext.read(FOLDER / f"{page}.md")


def code(page):
    return [cell for cell in notebook(page).cells if cell.cell_type == "code"]


def outputs(cells, kind):
    """The data of one MIME type in all outputs."""
    found = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return [data[kind] for data in found if kind in data]


@pytest.fixture(autouse=True)
def own_kernel(tmp_path, monkeypatch):
    """A kernel computes in one thread, and writes to the folder of the test alone."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


def test_every_notebook_is_run():
    assert {path.stem for path in FOLDER.glob("*.md")} == {*SMALL, "index"}


@pages
def test_settings_come_first(page):
    first = code(page)[0]
    assert first.metadata.tags == ["parameters"]
    assigned = [node.targets[0].id for node in ast.parse(first.source).body]
    assert assigned == [*SMALL[page]]


@pages
def test_no_internal_name_is_used(page):
    for cell in code(page):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom):
                assert node.module in PUBLIC or node.module.split(".")[0] in OTHERS, node.module
            elif isinstance(node, ast.Import):
                for name in node.names:
                    assert name.name == "limner" or name.name.split(".")[0] in OTHERS, name.name
            elif isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_"), node.attr


@pytest.mark.slow
@pages
def test_a_notebook_runs(page, tmp_path):
    run = notebook(page)
    place = next(k for k, cell in enumerate(run.cells) if cell.cell_type == "code")
    small = "\n".join(f"{name} = {value!r}" for name, value in SMALL[page].items())
    run.cells.insert(place + 1, nbformat.v4.new_code_cell(small))
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(run, timeout=300, kernel_name="python3", resources=where).execute()
    html = outputs(run.cells, "text/html")
    pictures = [text for text in html if "data:image/" in text] + outputs(run.cells, "image/png")
    assert len(pictures) >= 2
    assert any("<table" in text for text in html)
    assert all(len(text) < 2_000 for text in outputs(run.cells, "text/plain"))
    assert not any("Warning" in text for text in streams(run.cells)), "a library warns"
    assert not any("<progress" in text for text in html), "progress ends as a line"


def streams(cells):
    found = [output for cell in cells for output in cell.get("outputs", [])]
    return [output.text for output in found if output.output_type == "stream"]


# A kernel, message by message

TRAINING = """
import limner
import torch

model = limner.VAE(limner.VAEConfig(hidden_dims=(8,), latent_dim=2), (1, 8, 8))
before = [parameter.clone() for parameter in model.parameters()]
digits = limner.data.load(limner.data.DataConfig(name="digits"))


def after_step(state):
    if state.step == 50:
        print("trained", flush=True)


fit = limner.fit(model, digits, epochs=10**6, device="cpu", callback=after_step, every=1)
"""
TRAINED = """
assert fit.stopped and fit.model is model and not model.training
changed = [not torch.equal(*pair) for pair in zip(before, model.parameters())]
assert all(changed), changed
again = limner.fit(model, digits, epochs=1, device="cpu")
assert not again.stopped
print("kept")
"""
BOTH = """
import threading

thread = threading.Thread(target=lambda: limner.fit(vae, "digits", epochs=1, device="cpu"))
thread.start()
fit = limner.fit(vae, "digits", epochs=1, device="cpu")
thread.join()


async def train():
    return limner.fit(vae, "digits", epochs=1, device="cpu")


print((await train()).history)
"""


@contextmanager
def kernel(folder):
    km, client = manager.start_new_kernel(kernel_name="python3", cwd=str(folder))
    try:
        yield km, client
    finally:
        client.stop_channels()
        km.shutdown_kernel(now=True)
        km.cleanup_resources()


def messages(client, code):
    """What a kernel sends while it runs `code`; an error fails the test."""
    asked = client.execute(code)
    while True:
        try:
            message = client.get_iopub_msg(timeout=120)
        except queue.Empty:
            pytest.fail("the kernel is silent")
        if message["parent_header"].get("msg_id") != asked:
            continue
        kind, content = message["msg_type"], message["content"]
        assert kind != "error", "\n".join(content.get("traceback", []))
        if kind == "status" and content["execution_state"] == "idle":
            return
        yield kind, content


def text_of(sent):
    return "".join(content["text"] for kind, content in sent if kind == "stream")


@pytest.mark.slow
def test_interrupt_keeps_the_weights_and_progress_is_one_output(tmp_path):
    with kernel(tmp_path) as (km, client):
        sent = []
        for kind, content in messages(client, TRAINING):
            sent.append((kind, content))
            if kind == "stream" and "trained" in content["text"]:
                km.interrupt_kernel()
        shown = [content for kind, content in sent if kind == "display_data"]
        updates = [content for kind, content in sent if kind == "update_display_data"]
        place = shown[-1]["transient"]["display_id"]
        assert "<progress" in shown[-1]["data"]["text/html"]
        assert updates
        assert all(update["transient"]["display_id"] == place for update in updates)
        assert "<progress" not in updates[-1]["data"]["text/html"]
        assert "kept" in text_of(list(messages(client, TRAINED)))


@pytest.mark.slow
def test_threads_and_coroutines_of_a_kernel_train(tmp_path):
    with kernel(tmp_path) as (_, client):
        config = "limner.VAEConfig(hidden_dims=(8,), latent_dim=2)"
        list(messages(client, f"import limner\nvae = {config}"))
        assert "History(" in text_of(list(messages(client, BOTH)))
