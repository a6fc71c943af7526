"""The documentation: its code runs, its commands parse, its links and files exist."""

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import limner
import test_models_all
from limner import DRAWConfig, VAEConfig, elbo, importance_weighted_bound
from limner.cli import COMMANDS, main
from limner.commands import compare as compare_command
from limner.commands import flags as command_flags
from limner.commands import train as train_command
from limner.commands.data import SUBCOMMANDS
from limner.config import RunConfig
from limner.evaluation.likelihood import elbo_per_step
from limner.models import kinds as model_kinds
from limner.models import register, registry
from limner.recipes import RECIPES

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *sorted(ROOT.glob("docs/**/*.md"))]
}
EXAMPLE = ROOT / "docs" / "examples" / "new_model.py"
PLAIN = ROOT / "docs" / "examples" / "plain_draw.py"
EXTENSIONS = ROOT / "docs" / "_extensions"
OTHERS = ("CHANGELOG.md",)
"""The words of the others do not bind it: it names what was before."""
pages = pytest.mark.parametrize("page", PAGES)


def blocks(page, language):
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)


def prose(page):
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)


def indented_blocks(page):
    found = re.findall(r"(?:^ {4}.*\n(?:\n(?= {4}))?)+", prose(page), re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


def commands(block):
    """Words of each `limner` command; `limner a | b RUN` is one with a, and one with b."""
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("limner "):
            words = shlex.split(line, comments=True)[1:]
            while "|" in words:
                yield [words[0], words[-1]]
                words = words[2:]
            yield words


def replaced(text, changes):
    for old, new in changes.items():
        assert old in text, f"the page no longer says {old}"
        text = text.replace(old, new)
    return text


def test_the_reference_names_what_there_is():
    listed = r"automodule:: (\S+)\n +:members: (.+)"
    found = re.findall(listed, PAGES["docs/api.md"])
    assert found
    for module, names in found:
        for name in names.split(", "):
            assert hasattr(importlib.import_module(module), name), (module, name)


# Code


TINY = "--model.num-steps 2 --model.hidden-dim 8 --model.latent-dim 2 --device cpu --compile never"
TINIER = {
    "train": f"{TINY} --epochs 1 --evaluate-samples 2",
    "evaluate": "--num-samples 2 --num-images 60",
    "sample": "--n 4",
    "animate": "--grid 1 2 --magnification 1",
    "figures": "--max-images 20 --projection pca --formats png",
    "probe": "--num-train 100 --num-test 50",
    "compare": "--epochs 1 --evaluate-samples 2 --compile never --jobs 1",
}
"""Flags that make a command of the tour quick; the last of two equal flags counts."""
STUDY = {
    "VAE": VAEConfig(hidden_dims=(8,), latent_dim=2),
    "DRAW": DRAWConfig(num_steps=2, hidden_dim=8, latent_dim=2),
}


def run_commands(block, capsys):
    for name, *flags in commands(block):
        finished = name == "compare" and not flags[0].startswith("-")
        tinier = "" if finished else TINIER.get(name, "")
        assert main([name, *flags, *tinier.split()]) == 0, (name, flags)
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")  # for speed
def test_the_tour_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    study = {name: RunConfig(model=model, epochs=1, device="cpu") for name, model in STUDY.items()}
    monkeypatch.setattr(compare_command, "STUDY", study)
    smaller = {
        "num_steps=16": "num_steps=2, hidden_dim=8",
        "latent_dim=50": "latent_dim=2",
        "epochs=40": "epochs=1, device='cpu', compile='never'",
        "num_samples=100": "num_samples=2",
    }
    page = "docs/tour.md"
    names = {}
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE):
        if kind == "sh":
            run_commands(block, capsys)
        else:
            used = {old: new for old, new in smaller.items() if old in block}
            smaller = {old: new for old, new in smaller.items() if old not in used}
            exec(compile(replaced(block, used), page, "exec"), names)
    assert not smaller, "the tour no longer says these"
    assert names["model"].sample(2).shape == (2, 1, 28, 28)
    assert names["inference"].kl.shape == (6, 2)
    assert names["generation"].canvases.shape == (2, 6, 1, 28, 28)
    assert (tmp_path / "runs" / "draw" / "redrawn.gif").is_file()


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
@pytest.mark.usefixtures("unchecked")
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)
    assert not names["fit"].model.training
    assert len(names["fit"].history) == (2 if page == "README.md" else 3)
    saved = names["model"] if page == "README.md" else names["again"]
    weights = limner.load("faces").state_dict()
    assert all(torch.equal(weights[name], value) for name, value in saved.state_dict().items())


# Commands


@functools.cache
def help_of(*words):
    """What `limner WORDS --help` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return shown.getvalue()


def help_for(words):
    """The help that lists the flags of a command, for the model that it is about."""
    name, *rest = words
    if name == "train":
        kinds = [word for word in rest if word in model_kinds()]
        kinds += [RECIPES[word].config.model.kind for word in rest if word in RECIPES]
        return help_of("train") + help_of("train", *(kinds or ["draw"])[:1])
    return help_of(name, *[word for word in rest[:1] if name == "data" and word in ("list", "get")])


@pytest.fixture
def parse(monkeypatch):
    """Parses the flags of a command, which is not run."""

    class Trained:
        path = Path("run")
        config = RECIPES["draw"].config

    monkeypatch.setattr("limner.training.launch.train", lambda *_, **__: Trained)
    for name in ("evaluated", "show"):
        monkeypatch.setattr(train_command, name, lambda *_, **__: None)

    def parse(name, *flags):
        if name == "train":
            train_command.train([*flags])
        elif name == "data":
            command_flags.bound(SUBCOMMANDS[flags[0]], "limner data", flags[1:])
        else:
            home, function = COMMANDS[name].home.split(":")
            module = importlib.import_module(f"limner.commands.{home}")
            command_flags.bound(getattr(module, function), f"limner {name}", flags)

    return parse


@pages
def test_commands_of_blocks_parse(page, parse, capsys):
    for block in [*blocks(page, "sh"), *indented_blocks(page)]:
        for words in commands(block):
            assert words[0] in COMMANDS, words
            if not {"--resume", "--config"} & set(words):  # these read a run's files
                parse(*words)
    capsys.readouterr()


@pages
def test_commands_in_the_text_exist_and_have_their_flags(page):
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        words = code.split()
        if words[0] == "limner" and len(words) > 1 and words[1] in (*COMMANDS, words[1].lower()):
            if "gru-draw" in words:  # the worked example
                continue
            assert words[1] in COMMANDS or words[1].startswith("-"), code
            for flag in re.findall(r"--[a-z][\w.-]*", code):
                assert flag == "--help" or flag in help_for(words[1:]), code
        elif words[0].startswith("--"):
            known = [help_of("train"), *(help_of("train", kind) for kind in model_kinds())]
            known += [help_of(name) for name in COMMANDS if name not in ("train", "data")]
            for flag in re.findall(r"--[a-z][\w.-]*", code):
                assert any(re.search(rf"{re.escape(flag)}(?![\w-])", text) for text in known), flag


# Links and files


@pages
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if not re.match(r"https?://|#", target):
            assert ((ROOT / page).parent / target.partition("#")[0]).exists(), target


@pages
def test_named_files_exist(page):
    """Source, tests and pages that are named in the text: from the root, or from their own."""
    homes = [ROOT, (ROOT / page).parent, ROOT / "src" / "limner", ROOT / "tests"]
    for name in re.findall(r"`([\w./-]+\.(?:py|md|toml|yml))`", prose(page)):
        assert any((home / name).is_file() for home in homes), name


@pages
def test_excerpts_are_there(page):
    """Files and objects of `literalinclude`, as Sphinx will look for them."""
    fence = r"^```\{literalinclude\} (\S+)\n(.*?)^```"
    for target, options in re.findall(fence, PAGES[page], re.DOTALL | re.MULTILINE):
        path = ((ROOT / page).parent / target).resolve()
        assert path.is_file(), target
        for name in re.findall(r":pyobject: (\S+)", options):
            body = ast.parse(path.read_text()).body
            for part in name.split("."):
                found = [node for node in body if getattr(node, "name", None) == part]
                assert found, f"{target} has no {name}"
                body = getattr(found[0], "body", [])


# Words, citation, navigation


WRONG = (
    r"goes on|whoever|is told in|from the best|difference to the best|images a second|nats an image"
    r"|window in (green|red)|−(ELBO|L_)"
)


@pages
def test_words_are_those_of_the_field(page):
    if page not in OTHERS:
        assert not re.findall(WRONG, PAGES[page])


def test_the_readme_is_short_and_leaves_provenance_to_the_results():
    assert len(PAGES["README.md"].splitlines()) < 150
    assert not re.search(r"\bcommit [0-9a-f]{7}", PAGES["README.md"])


def test_the_citation_is_of_this_version():
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == limner.__version__


def test_every_page_is_in_the_navigation():
    entries = re.findall(
        r"^```\{toctree\}\n(?::[^\n]*\n)*\n(.*?)^```", PAGES["docs/index.md"], re.M | re.S
    )
    listed = {f"docs/{name}.md" for block in entries for name in block.split()}
    assert listed == {page for page in PAGES if page.startswith("docs/")} - {"docs/index.md"}


# The site's own extensions


@pytest.fixture
def extension(monkeypatch):
    monkeypatch.syspath_prepend(EXTENSIONS)
    return importlib.import_module


def test_the_reference_of_commands_has_their_flags(extension):
    """Every flag that `--help` lists is in the reference, and no cell is cut by a `|`."""
    reference = "\n".join(extension("flags").reference())
    for name in COMMANDS:
        assert f"\n## {name}\n" in reference
    for words in (("train", "draw"), ("train", "ladder-vae"), ("evaluate",), ("data", "show")):
        listed = set(re.findall(r"(?<!\S)--[a-z][\w.-]*", help_of(*words)))
        assert listed - {"--help"} <= set(re.findall(r"`(--[\w.-]+)`", reference)), words
    rows = [line for line in reference.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in rows)
    assert r"p(x \| z)" in reference


@pages
def test_equations_break_only_where_they_can(page, extension):
    """The parts of an equation, of which a narrow page shows one per line, are whole."""
    for equation in re.findall(r"^\$\$\n(.*?)^\$\$", PAGES[page], re.MULTILINE | re.DOTALL):
        for part in extension("mathematics").parts(equation):
            assert part.count(r"\left") == part.count(r"\right"), part
            assert part.count("{") == part.count("}"), part
            assert part.strip()


# DRAW in plain torch


def test_plain_draw_is_the_librarys_draw():
    """The same weights and noise: equal KL of every step and equal log p(x | z)."""
    plain = runpy.run_path(str(PLAIN))
    torch.manual_seed(0)
    config = DRAWConfig(
        num_steps=4, attention="filterbank", read_size=3, write_size=5, hidden_dim=7, latent_dim=3
    )
    model = limner.DRAW(config, (1, 9, 9)).double().eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    x = (torch.rand(6, 1, 9, 9) < 0.4).double()
    noise, again = (torch.Generator().manual_seed(1) for _ in range(2))
    epsilon = [torch.randn(6, 3, generator=again, dtype=torch.float64) for _ in range(4)]
    with torch.no_grad():
        inference = model.infer(x, noise)
        kl, log_likelihood = plain["draw"](model.state_dict(), x[:, 0], torch.stack(epsilon), 3, 5)
    torch.testing.assert_close(kl, inference.kl, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_likelihood, inference.log_likelihood, rtol=1e-12, atol=1e-12)


def test_plain_draw_is_short():
    body = [line for line in PLAIN.read_text().splitlines() if re.match(r" {4,}[^\s\"]", line)]
    assert len(body) <= 25


# The worked example of a new model


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("new_model", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["new_model"] = module  # its annotations are looked up there
    spec.loader.exec_module(module)
    register(module.GRUDraw, module.GRUDrawConfig)
    yield module
    registry._registered.pop("gru-draw")
    sys.modules.pop("new_model")


def test_the_example_is_short_and_the_page_knows_how_short():
    lines = len(EXAMPLE.read_text().splitlines())
    assert lines <= 70
    assert f"{lines} lines" in PAGES["docs/new-model.md"]


def promises():
    """The tests of `test_models_all`, but those of compiling, for each observation they vary."""
    for name, test in vars(test_models_all).items():
        if name.startswith("test_") and "compiled" not in name:
            varied = "observation" in inspect.signature(test).parameters
            for observation in test_models_all.OBSERVATIONS[: None if varied else 1]:
                yield pytest.param(test, observation, id=f"{name}-{observation}")


@pytest.mark.parametrize(("promise", "observation"), [*promises()])
def test_the_example_keeps_what_every_model_promises(promise, observation, example, monkeypatch):
    config = example.GRUDrawConfig(num_steps=3, hidden_dim=6, latent_dim=3)
    monkeypatch.setitem(test_models_all.CONFIGS, "gru-draw", config)
    given = {"kind": "gru-draw", "observation": observation, "shape": (3, 4, 5)}
    promise(**{name: given[name] for name in inspect.signature(promise).parameters})


def tiny(example, memory="store"):
    """The example in float64, some images, and a source of noise."""
    torch.manual_seed(0)
    config = example.GRUDrawConfig(num_steps=7, hidden_dim=6, latent_dim=3, memory=memory)
    x = (torch.rand(4, 1, 5, 4) < 0.4).double()
    return example.GRUDraw(config, (1, 5, 4)).double(), x, torch.Generator().manual_seed(1)


def test_the_example_inherits_recomputed_steps(example):
    """The same gradients, from less memory."""
    found, held = [], []
    for memory in ("store", "recompute"):
        model, x, noise = tiny(example, memory)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, saved=saved: saved.append(tensor.numel()) or tensor,
            lambda tensor: tensor,
        ):
            bound = elbo(model.infer(x, noise)).mean()
        bound.backward()
        found.append([parameter.grad for parameter in model.parameters()])
        held.append(sum(saved))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    assert held[1] < held[0] / 2


def test_the_example_inherits_traces_and_bounds_per_step(example):
    """The bound after step t is that of a model with t steps and the same latents."""
    model, x, noise = tiny(example)
    trace = model.infer(x, noise, trace=True)
    assert trace.canvases.shape == (7, 4, 1, 5, 4)
    assert trace.features.shape == (4, 20)
    for t, bound in enumerate(elbo_per_step(model, x, trace).unbind(1), start=1):
        model.num_steps = t
        zs = [latent.z for latent in trace.latents[:t]]
        torch.testing.assert_close(bound, elbo(model.infer(x, latents=zs)))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
def test_the_example_inherits_compiling(example):
    found = []
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for compiled in (False, True):
        model, x, _ = tiny(example)
        model.float().compiled = compiled
        elbo(model(x.float(), torch.Generator().manual_seed(1))).mean().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


def test_the_code_on_the_example_trains_bounds_and_samples(example):
    torch.manual_seed(0)
    p = torch.rand(1, 6, 6) ** 3
    x = (torch.rand(40, 1, 6, 6) < p).float()
    names = vars(example) | {"x": x}
    (block,) = blocks("docs/new-model.md", "python")
    exec(compile(block, "docs/new-model.md", "exec"), names)
    trained = names["model"]
    torch.manual_seed(0)
    untrained = example.GRUDraw(trained.config, (1, 6, 6)).init_from_images(x).eval()
    assert elbo(trained.infer(x)).mean() > elbo(untrained.infer(x)).mean()
    assert importance_weighted_bound(trained, x, 20).mean() > elbo(trained.infer(x)).mean()
    assert trained.sample(3).shape == (3, 1, 6, 6)


REGISTERED = """
import limner
from new_model import GRUDraw, GRUDrawConfig

limner.register(GRUDraw, GRUDrawConfig)

from limner.cli import main

tiny = "--model.num-steps 3 --epochs 1 --evaluate-samples 2 --device cpu --data.name digits"
memory = "--model.memory recompute"
assert main(["train", "gru-draw", *tiny.split(), *memory.split(), "--out", "run"]) == 0
assert main(["evaluate", "run", "--per-step", "--num-samples", "2"]) == 0
assert main(["animate", "run", "--grid", "1", "2", "--magnification", "1"]) == 0
assert main(["encode", "run"]) == 0
"""


@pytest.mark.slow
def test_one_line_registers_the_example_and_every_command_knows_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", REGISTERED],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(EXAMPLE.parent), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "results.json").is_file()
    assert list((tmp_path / "run" / "figures").glob("animation-*.gif"))
