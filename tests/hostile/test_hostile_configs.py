"""Configs: runs of valid ones can be saved and loaded; invalid ones are refused with a reason."""

import json

import pytest
import torch
from hostility import altered, cases, refusal, refused
from hypothesis import given
from hypothesis import strategies as st

from limner import load
from limner.config import ObjectiveConfig, OptimizerConfig, RunConfig
from limner.data import DataConfig
from limner.errors import InputError
from limner.models import DRAWConfig, LadderVAEConfig, VAEConfig, build, outline
from limner.training.runs import Run

small = st.integers(1, 4)
share = st.floats(0, 1, exclude_max=True)
amount = st.floats(0, 1e3)
positive = st.floats(1e-6, 1e3)


def one_of(kind, field):
    """The words that a field may hold."""
    words = kind.model_json_schema()["properties"][field]
    return st.sampled_from(words.get("enum") or words["anyOf"][0]["enum"])


def words(kind, *fields):
    return {field: one_of(kind, field) for field in fields}


vaes = st.builds(
    VAEConfig,
    hidden_dims=st.lists(small, max_size=3).map(tuple),
    latent_dim=small,
    **words(VAEConfig, "observation", "activation"),
)
ladders = st.integers(1, 3).flatmap(
    lambda layers: st.builds(
        LadderVAEConfig,
        hidden_dims=st.tuples(*[small] * layers),
        latent_dims=st.tuples(*[small] * layers),
        **words(LadderVAEConfig, "observation", "activation"),
    )
)
draws = st.builds(
    DRAWConfig,
    **dict.fromkeys(("num_steps", "read_size", "write_size", "hidden_dim", "latent_dim"), small),
    **words(DRAWConfig, "observation", "attention", "prior", "memory"),
)
data = st.builds(
    DataConfig,
    name=st.text(min_size=1, max_size=12),
    root=st.none() | st.sampled_from(["images", "/images"]),
    draw_seed=st.integers(0, 2**40),
    **words(DataConfig, "binarization"),
)
optimizers = st.builds(
    OptimizerConfig,
    learning_rate=positive,
    weight_decay=amount,
    betas=st.tuples(share, share),
    epsilon=positive,
    clip_norm=positive,
    warmup_steps=st.integers(0, 10**9),
    **words(OptimizerConfig, "name", "schedule"),
)
objectives = st.one_of(
    st.builds(ObjectiveConfig, num_samples=small, kl_warmup_epochs=amount, free_bits=amount),
    st.builds(
        ObjectiveConfig,
        kind=st.just("iwae"),
        num_samples=small,
        **words(ObjectiveConfig, "gradient"),
    ),
    st.builds(ObjectiveConfig, gradient=st.sampled_from(["plain", "stl"]), beta=positive),
)


def recomputes_what_must_be_kept(pair):
    model, objective = pair
    return objective.gradient != "plain" and getattr(model, "memory", "auto") == "recompute"


pairs = st.tuples(vaes | ladders | draws, objectives)
configs = pairs.filter(lambda pair: not recomputes_what_must_be_kept(pair)).flatmap(
    lambda pair: st.builds(
        RunConfig,
        model=st.just(pair[0]),
        data=data,
        optimizer=optimizers,
        objective=st.just(pair[1]),
        start_from=st.none() | st.text(min_size=1),
        epochs=st.integers(1, 10**9),
        minutes=st.none() | positive,
        batch_size=st.integers(1, 10**9),
        seed=st.integers(0, 2**63 - 1),
        ema_decay=share,
        validate_every=small,
        checkpoint_minutes=positive,
        evaluate_samples=small,
        trackers=st.lists(st.sampled_from(["tensorboard", "wandb"]), max_size=2).map(tuple),
        device=st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "mps"]),
        **words(RunConfig, "compile", "precision"),
    )
)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
WHOLE = RunConfig(
    model=DRAWConfig(num_steps=2, hidden_dim=3, latent_dim=2), epochs=1, minutes=1.0
).model_dump(mode="json")


def answers(model, x):
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        inference = model.infer(x, source)
        return [inference.kl, inference.log_likelihood, model.sample(2, source)]


def check_a_valid_config(folder, config, shape):
    """It builds, infers, samples, saves and loads, with equal answers."""
    run = Run.create(folder / "run", config, overwrite=True)
    torch.manual_seed(config.seed)
    model = build(config.model, shape).init_from_images(torch.rand(3, *shape)).eval()
    run.save_weights("best", {"ema": model.state_dict()}, {"image_shape": shape})
    x = torch.rand(2, *shape).round()
    before = answers(model, x)
    assert before[0].shape == (2, model.num_groups)
    assert before[2].shape == (2, *shape)
    assert all(values.isfinite().all() for values in before)
    after = answers(load(run.path), x)
    assert all(map(torch.equal, before, after))
    assert Run.open(run.path).config == config


def test_a_valid_config_works_from_building_to_loading(tmp_path):
    cases(30)(
        given(config=configs, shape=shapes)(lambda **case: check_a_valid_config(tmp_path, **case))
    )()


@pytest.mark.slow
def test_many_valid_configs_work_from_building_to_loading(tmp_path):
    cases(120)(
        given(config=configs, shape=shapes)(lambda **case: check_a_valid_config(tmp_path, **case))
    )()


@cases(30)
@given(config=vaes | ladders | draws, shape=shapes)
def test_an_outline_is_the_model_without_its_memory_or_any_randomness(config, shape):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    sketch = outline(config, shape)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(tensor.is_meta for tensor in sketch.state_dict().values())
    model = build(config, shape)
    assert {name: tensor.shape for name, tensor in sketch.state_dict().items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }


# Invalid ones: for every field, values that it cannot hold

NEVER = {
    "wrong type": {"a": {}},
    "infinite": float("inf"),
    "negative": -1,
    "endless": 10**400,
    "empty": "",
    "nothing at all": [[]],
}


def fields(document, prefix=()):
    for name, value in document.items():
        if isinstance(value, dict):
            yield from fields(value, (*prefix, name))
        elif name not in ("kind", "schema_version", "root", "name"):
            yield (*prefix, name)


def documents():
    models = [VAEConfig(), LadderVAEConfig(), DRAWConfig()]
    return [RunConfig(model=model, epochs=1).model_dump(mode="json") for model in models]


FIELDS = sorted(
    {(document["model"]["kind"], *field) for document in documents() for field in fields(document)}
)


def replaced(document, field, value):
    name, *rest = field
    return document | {name: replaced(document[name], rest, value) if rest else value}


@pytest.mark.parametrize("fault", NEVER)
def test_a_fault_in_any_field_is_told_with_its_name(fault, tmp_path):
    base = {document["model"]["kind"]: document for document in documents()}
    path, told = tmp_path / "config.json", 0
    for kind, *field in FIELDS:
        unbounded = field[-1] in (
            "epochs",
            "batch_size",
            "warmup_steps",
            "validate_every",
            "draw_seed",
        )
        if (fault, field[-1]) == ("empty", "trackers") or (fault == "endless" and unbounded):
            continue
        path.write_text(json.dumps(replaced(base[kind], field, NEVER[fault])))
        sentence = refused(lambda: RunConfig.read(path))
        assert field[-1] in sentence, (field, sentence)
        told += 1
    assert told > 50


@pytest.mark.parametrize(
    "key", ["self", "values", "steps", "", "a" * 10**5, "\x1b[2J\n", "model_config", "__class__"]
)
@pytest.mark.parametrize("place", [(), ("model",), ("data",), ("optimizer",), ("objective",)])
def test_unknown_keys_are_refused_wherever_they_are(key, place, tmp_path):
    document = json.loads(json.dumps(WHOLE))
    inner = document
    for name in place:
        inner = inner[name]
    inner[key] = 1
    (tmp_path / "config.json").write_text(json.dumps(document))
    refused(lambda: RunConfig.read(tmp_path / "config.json"), "remove it")


@cases(200)
@given(document=altered(WHOLE))
def test_an_altered_config_is_valid_or_told(document, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "altered.json"
    path.write_text(json.dumps(document))
    if not refusal(lambda: RunConfig.read(path)):
        config = RunConfig.read(path)
        assert RunConfig.parse(json.loads(config.to_json())) == config


TEXTS = {
    "nothing": b"",
    "null": b"null",
    "list": b"[]",
    "number": b"1e999",
    "not a number": b'{"schema_version": NaN}',
    "deep list": b"[" * 10**5,
    "deep mapping": b'{"a":' * 10**5,
    "deep value": b'{"schema_version": 1, "model": ' + b"[" * 900 + b"]" * 900 + b"}",
    "long number": b'{"schema_version": 1, "seed": ' + b"9" * 5000 + b"}",
    "bytes": b"\xff\xfe\0",
    "surrogate": b'{"schema_version": 1, "epochs": 1, "model": {"kind": "\\ud800"}}',
    "terminal": b'{"schema_version": "\x1b[2J"}',
    "escaped": b'{"schema_version": "\\u001b]0;\\u0007\\n"}',
    "long": b'{"schema_version": "' + b"a" * 10**6 + b'"}',
    "zeros": bytes(2**23),
    "pickle": b"cos\nsystem\n(S'false'\ntR.",
}


@pytest.mark.parametrize("case", TEXTS)
def test_texts_that_are_no_config_are_refused(case, tmp_path):
    (tmp_path / "config.json").write_bytes(TEXTS[case])
    refused(lambda: Run.open(tmp_path))


def test_of_a_key_given_twice_the_last_counts(tmp_path):
    text = json.dumps(WHOLE).replace('"epochs": 1', '"epochs": 1, "epochs": 0')
    (tmp_path / "config.json").write_text(text)
    refused(lambda: Run.open(tmp_path), "epochs")


@pytest.mark.parametrize(
    "config",
    [
        VAEConfig(hidden_dims=(2**16, 2**16)),
        LadderVAEConfig(hidden_dims=(2**16,), latent_dims=(2**16,)),
        DRAWConfig(hidden_dim=2**16),
        DRAWConfig(attention="filterbank", write_size=2**16),
        VAEConfig(hidden_dims=(2**13,) * 64),
    ],
    ids=str,
)
def test_a_model_that_would_fill_the_memory_is_refused_before_it_is_built(config):
    refused(lambda: build(config, (1, 28, 28)), "parameters")


@pytest.mark.parametrize("shape", [(1, 2**13, 2**13), (2**30, 1, 1), (10**12,) * 3, (1, 0, 1)])
@pytest.mark.parametrize("config", [VAEConfig, LadderVAEConfig, DRAWConfig])
def test_images_of_no_reasonable_shape_are_refused(config, shape):
    refused(lambda: build(config(), shape))


@cases(200)
@given(text=st.text(max_size=50) | st.text("\n\r\x1b\x9b\u202e\0\ud800a", max_size=3000))
def test_a_message_is_one_line_that_a_terminal_can_show(text):
    shown = str(InputError(f"{text}."))
    assert shown.isprintable()
    assert len(shown) < 1300
    assert shown.endswith(".")
