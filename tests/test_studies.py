"""Studies: files, plans, and runs that are trained several at once."""

import csv
import inspect
import json
import socket
import tomllib

import pytest
import torch

from limner import data
from limner.cli import main
from limner.commands import compare
from limner.commands.compare import _claim
from limner.config import RunConfig
from limner.data import DataConfig
from limner.data.known import known_observation
from limner.errors import InputError
from limner.figures.studies import study_figure
from limner.recipes import STUDY
from limner.studies import Study, averaged, built_in, carry_out, open_study, planned, resources
from limner.studies.engines import Processes, Share, Task, _check_reachable
from limner.studies.page import write_page
from limner.studies.planning import merged, slug
from limner.studies.studying import held, is_finished, problem_in
from limner.studies.tables import Mean, to_csv
from limner.studies.working import _changes

DEPTH = """
title = "Depth"
seeds = [3, 4]
[base]
epochs = 1
data.name = "digits"
model.kind = "draw"
[[axes]]
setting = "model.num_steps"
values = [1, 2]
[[axes]]
name = "model"
[[axes.choices]]
name = "narrow"
set.model.hidden_dim = 8
[[axes.choices]]
name = "wide"
set.model.hidden_dim = 16
axes = [{ setting = "model.latent_dim", values = [2, 3] }]
"""


def study(text=DEPTH, **changes):
    return Study.parse(tomllib.loads(text) | changes)


def test_every_combination_is_planned_for_every_seed():
    plan = planned(study())
    found = [
        (
            run.config.model.num_steps,
            run.config.model.hidden_dim,
            run.config.model.latent_dim,
            run.config.seed,
        )
        for run in plan
    ]
    expected = [
        (steps, *widths, seed)
        for steps in (1, 2)
        for widths in ((8, 100), (16, 2), (16, 3))
        for seed in (3, 4)
    ]
    assert found == expected
    assert plan[2].labels == {"num steps": "1", "model": "wide", "latent dim": "2"}
    assert len({run.name for run in plan}) == len(plan)
    assert all(run.config.evaluate_samples == 100 for run in plan)


def test_own_images_of_a_study_are_loaded_once_and_known_ones_not_at_all(monkeypatch):
    loaded = []
    images = data.load(data.DataConfig(name="digits"))
    monkeypatch.setattr("limner.data.load", lambda config: loaded.append(config) or images)
    plan = planned(study())
    assert len(plan) == 12
    assert loaded == []
    assert {run.config.model.observation for run in plan} == {"bernoulli"}
    planned(study(), {"name": "mine.npz"})
    assert len(loaded) == 1


@pytest.mark.parametrize("name", ["digits", "mnist-5k"])
@pytest.mark.parametrize("binarization", [None, "dynamic", "none"])
def test_the_observation_of_known_images_is_that_of_their_pixels(name, binarization):
    config = data.DataConfig(name=name, binarization=binarization)
    assert known_observation(config) == data.natural_observation(data.load(config))


def test_a_line_is_a_choice_or_else_a_value_of_the_second_axis():
    steps = {"setting": "model.num_steps", "values": [1, 2]}
    rates = {"setting": "optimizer.learning_rate", "values": [0.1, 0.2]}
    model = {"name": "model", "choices": [{"name": "small"}]}
    expected = {"model": [steps, model], "learning rate": [steps, rates], None: [steps]}
    assert {study(axes=axes).line_axis: axes for axes in expected.values()} == expected
    assert study(axes=[steps, model], lines="num steps").line_axis == "num steps"


@pytest.mark.parametrize(("groups", "ticks"), [((1, 2, 4), [1, 2, 4]), ((), None)])
def test_the_figure_of_a_study_labels_its_ticks(groups, ticks):
    x = "groups" if groups else "parameters"
    rows = [
        {"attention": kind, x: Mean(value, None), "-ELBO": Mean(90.0 + value, 0.5)}
        for kind in ("without", "filterbank")
        for value in groups or (11_000, 12_500, 17_000)
    ]
    made = study_figure(rows, ["attention"], [(x, "-ELBO")], "attention", 100, "Depth")
    (axes,) = made.axes
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert shown == ticks if ticks else len(shown) >= 2
    assert axes.get_legend().get_title().get_text() == "attention"


def test_another_kind_replaces_the_model_and_a_budget_the_other():
    base = {"model": {"kind": "draw", "num_steps": 4}, "epochs": 3}
    changed = merged(base, {"model": {"kind": "vae"}, "minutes": 1})
    assert changed == {"model": {"kind": "vae"}, "minutes": 1}
    assert merged(base, {"model": {"kind": "draw"}})["model"]["num_steps"] == 4
    assert merged({"model": {"latent_dim": 7}}, {"model": {"kind": "vae"}}) == {
        "model": {"latent_dim": 7, "kind": "vae"}
    }


def test_the_order_of_axes_does_not_matter():
    steps = {"setting": "model.num_steps", "values": [1, 2]}
    kind = {"setting": "model.kind", "values": ["draw"]}
    for axes in ([steps, kind], [kind, steps]):
        plan = planned(study(base={"epochs": 1, "model": {"kind": "vae"}}, axes=axes))
        assert {run.config.model.num_steps for run in plan} == {1, 2}


def test_an_axis_is_never_named_as_a_column():
    axes = [{"setting": "model.memory", "values": ["store", "recompute"]}]
    assert {name for run in planned(study(axes=axes)) for name in run.labels} == {"model memory"}


def test_folders_are_named_in_any_script_and_not_too_long():
    names = [slug(words) for words in ("Модель 1", "слова", "a_b", "../x", "m" * 300, "!")]
    assert names[:4] == ["модель-1", "слова", "a-b", "x"]
    assert len(names[4]) < 100
    assert names[5] == "run"


@pytest.mark.parametrize("name", built_in())
def test_built_in_studies_are_valid(name):
    plan = planned(open_study(name))
    assert len(plan) >= 4
    assert all(RunConfig.parse(run.config.model_dump(mode="json")) == run.config for run in plan)


def test_the_study_of_four_trains_what_compare_trains():
    plan, expected = planned(open_study("four")), compare._plan(STUDY, (0,), 20)
    assert [(run.labels, run.config) for run in plan] == [
        (run.labels, run.config) for run in expected
    ]
    assert inspect.signature(compare.compare).parameters["evaluate_samples"].default == 20


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, (1, 28, 28)),
        ({"name": "svhn"}, (3, 32, 32)),
        ({"name": "cifar10", "colour": "grey", "size": 16}, (1, 16, 16)),
        ({"name": "photographs", "size": (48, 64), "colour": "rgb"}, (3, 48, 64)),
    ],
)
def test_memory_is_estimated_for_the_size_of_the_images(data, expected):
    assert resources.image_shape(DataConfig(**data)) == expected
    [run] = planned(study(axes=[], seeds=[0]))
    run = run._replace(config=run.config.with_(data=DataConfig(**data)))
    assert resources._model(run).image_shape == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": [{"values": [1]}]}, "a setting and its values"),
        ({"axes": [{"name": "a", "choices": []}]}, "a setting and its values"),
        ({"seeds": [1, 1]}, "different ones"),
        ({"lines": "depth"}, "no axis 'depth'"),
        ({"plots": [{"x": "colour"}]}, "x"),
        ({"colour": 1}, "no setting 'colour'"),
        ({"plots": []}, "plots"),
        *(
            ({"axes": [{"name": name, "choices": [{"name": "a"}]}]}, "column of the table")
            for name in ("seed", "images per second", "-ELBO, stderr over images")
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(changes, message):
    with pytest.raises(InputError, match=message):
        study(**changes)


NESTED = {"name": "m", "axes": [{"name": "a", "setting": "model.num_steps", "values": [1]}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": {"epochs": 1, "model": 5}, "axes": []}, "got 5"),
        ({"base": {"epochs": 1, "model": {"kind": "vae"}, "data": "a"}, "axes": []}, "data must"),
        ({"recipe": "draw", "base": {"seed": 1}}, "seeds and samples"),
        ({"axes": [{"setting": "seed", "values": [1, 2]}], "recipe": "draw"}, "seeds and samples"),
        ({"axes": [{"name": "a", "choices": [NESTED]}]}, "Two axes have the name 'a'"),
        ({"axes": [{"setting": "model.num_steps", "values": [*range(1, 9000)]}]}, "runs or more"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_sentence(changes, message):
    with pytest.raises(InputError, match=message):
        planned(study(**changes))


def test_a_combination_that_is_no_config_is_named():
    axes = [{"setting": "model.num_steps", "values": [1, -1]}]
    with pytest.raises(InputError, match=r"num steps -1: .*num_steps"):
        planned(study(axes=axes))


def test_a_file_that_is_not_toml_and_a_misspelt_name_are_refused(tmp_path):
    (tmp_path / "a.toml").write_text("title = ")
    with pytest.raises(InputError, match="is not TOML"):
        open_study(tmp_path / "a.toml")
    with pytest.raises(InputError, match="did you mean depth"):
        open_study("dept")
    with pytest.raises(InputError, match="no study"):
        open_study("a" * 5000)
    with pytest.raises(InputError, match=r"no study file b\.toml"):
        open_study("b.toml")
    (tmp_path / "b.toml").write_bytes(b'\xef\xbb\xbftitle = "of Notepad"\n')
    assert open_study(tmp_path / "b.toml").title == "of Notepad"


class Instant:
    """An engine that writes finished runs without training; `fails` end with a message."""

    def __init__(self, fails=()):
        self.fails, self.trained = fails, []

    def run(self, tasks, ended, tick):
        for task in tasks:
            self.trained.append(task.folder.name)
            failed = any(word in task.folder.name for word in self.fails)
            if failed:
                task.log.write_text("loading\nlimner: There is no such thing.\n")
            else:
                finished(task)
            ended(task, 2 if failed else 0)
            tick([])


def finished(task, **changes):
    config = json.loads(task.config.read_text())
    task.folder.mkdir(exist_ok=True)
    (task.folder / "config.json").write_text(task.config.read_text())
    figures = {"elbo": -1.0, "reconstruction": -1.0, "kl": 0.0, "kl_per_group": [0.0]}
    line = {"epoch": config["epochs"], "seconds": 1.0, "images_per_second": 1.0} | changes
    (task.folder / "metrics.jsonl").write_text(
        json.dumps(line | {"train": figures, "validation": figures}) + "\n"
    )
    one = {"mean": -1.0, "stderr": 0.1}
    results = {
        **dict.fromkeys(("elbo", "reconstruction", "kl"), one),
        "iw_bound": one | {"num_samples": config["evaluate_samples"]},
        "bits_per_dim": {"elbo": one, "iw_bound": one},
        "active_units": [1],
        "dataset": "digits",
        "split": "test",
        "binarization": "dynamic",
        "observation": "bernoulli",
        "num_images": 2,
        "parameters": 3,
        "epochs": line["epoch"],
        "training_seconds": 1.0,
        "images_per_second": 1.0,
        "versions": {},
    }
    (task.folder / "results.json").write_text(json.dumps(results))


def test_finished_runs_stay_and_a_changed_file_trains_only_what_is_new(tmp_path):
    plan = planned(study(seeds=[0]))
    engine = Instant()
    carry_out(plan, tmp_path, engine)
    assert len(engine.trained) == 6
    carry_out(plan, tmp_path, again := Instant())
    assert again.trained == []
    more = study(seeds=[0, 1])
    carry_out(planned(more), tmp_path, again := Instant())
    assert len(again.trained) == 6
    assert all(name.endswith("seed-1") for name in again.trained)
    longer = study(seeds=[0], base=more.base | {"epochs": 2})
    outcomes = carry_out(planned(longer), tmp_path, again := Instant())
    assert all(name.endswith("seed-0-2") for name in again.trained)  # the old runs stay
    assert outcomes[0].run.config.epochs == 2


def test_a_run_that_was_evaluated_before_its_end_is_not_finished(tmp_path):
    config = RunConfig.parse({"minutes": 1, "model": {"kind": "vae"}, "evaluate_samples": 10})
    task = Task(tmp_path / "run", tmp_path / "config.json", tmp_path / "log")
    task.config.write_text(config.to_json())
    finished(task, epoch=4.0, seconds=59.0)
    assert not is_finished(task.folder, config)
    finished(task, epoch=4.0, seconds=60.1)
    assert is_finished(task.folder, config)
    assert is_finished(task.folder, config.with_(epochs=100))  # one budget is enough
    line = (task.folder / "metrics.jsonl").read_text()
    later = line.replace('"epoch": 4.0', '"epoch": 5.0')
    (task.folder / "metrics.jsonl").write_text(line + later)  # trained on since
    assert not is_finished(task.folder, config)


def test_another_number_of_samples_evaluates_the_same_runs_again(tmp_path):
    carry_out(planned(study(seeds=[0])), tmp_path, first := Instant())
    carry_out(planned(study(seeds=[0], samples=7)), tmp_path, again := Instant())
    assert again.trained == first.trained  # in the same folders
    asked = RunConfig.read(tmp_path / "configs" / f"{again.trained[0]}.json")
    flags = _changes(asked)
    assert flags[flags.index("--evaluate-samples") + 1] == "7"


def test_a_folder_is_of_one_study_at_a_time(tmp_path):
    class Nested(Instant):
        def run(self, tasks, ended, tick):
            with pytest.raises(InputError, match="Another study trains in"):
                carry_out(plan, tmp_path, Instant())
            super().run(tasks, ended, tick)

    plan = planned(study(seeds=[0]))
    carry_out(plan, tmp_path, Nested())
    carry_out(plan, tmp_path, Instant())


def test_a_run_that_fails_is_reported_and_the_others_are_trained(tmp_path):
    plan = planned(study(seeds=[0]))
    outcomes = carry_out(plan, tmp_path, Instant(fails=["narrow"]))
    problems = [one.problem for one in outcomes]
    assert problems.count("There is no such thing.") == 2
    assert problems.count(None) == 4
    carry_out(plan, tmp_path, again := Instant())
    assert len(again.trained) == 2  # those that failed are tried again


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(InputError, match="is not a study"):
        carry_out(planned(study()), tmp_path, Instant())


def test_means_over_seeds_and_their_errors():
    def row(seed, elbo):
        names = ("-L_K", "bits per dimension", "groups", "steps", "parameters")
        more = ("training seconds", "images per second", "memory")
        rest = dict.fromkeys((*names, *more), 1.0)
        return {"model": "a", "seed": seed, "-ELBO": elbo, "-ELBO, stderr over images": 0.3} | rest

    [mean] = averaged([row(0, 1.0), row(1, 2.0), row(2, 6.0)], ["model"])
    assert mean["model"] == "a"
    assert mean["-ELBO"].mean == pytest.approx(3.0)
    assert mean["-ELBO"].error == pytest.approx((7 / 3) ** 0.5)  # sd sqrt(7) over sqrt(3)
    [single] = averaged([row(0, 1.0)], ["model"])
    assert single["-ELBO"].stderr is None
    assert single["-ELBO"].error == 0.3
    assert single["steps"].error is None


def test_the_last_sentence_of_a_log_is_the_problem(tmp_path):
    log = tmp_path / "log"
    log.write_text("loading\nlimner: There is none.\n")
    assert problem_in(log, 2) == "There is none."
    log.write_text("limner: Stopped.\nTraceback\nValueError: x\n")
    assert problem_in(log, 1) == "ValueError: x"
    log.write_text("limner: Stopped.\nepoch 3\n")
    assert problem_in(log, -9) == "it was killed by SIGKILL after: epoch 3"
    assert "SIGKILL" in problem_in(tmp_path / "none", -9)
    assert "status 3" in problem_in(tmp_path / "none", 3)


def test_processes_train_at_once_and_end_with_the_study(tmp_path, monkeypatch):
    """The processes here are small programs in place of trainings."""
    program = tmp_path / "program.py"
    program.write_text(
        "import pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "(folder / 'begun').write_text('')\n"
        "sys.stdin.buffer.read()\n"  # until the study ends
        "(folder / 'saved').write_text('')\n"
    )
    tasks = []
    for name in "abc":
        (tmp_path / name).mkdir()
        tasks.append(Task(tmp_path / name, tmp_path / "none", tmp_path / f"{name}.log"))
    monkeypatch.setattr("limner.studies.engines.PROGRAM", [str(program)])

    def tick(under_way):
        assert len(under_way) <= 2
        if all((task.folder / "begun").exists() for task in tasks[:2]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Processes([Share(1)] * 2).run(tasks, lambda *_: None, tick)
    assert [(task.folder / "saved").exists() for task in tasks] == [True, True, False]


def test_a_killed_study_continues(tmp_path):
    """One real run, in a process of its own, then its figures in the table."""
    text = DEPTH.partition("[[axes]]")[0] + "model.hidden_dim = 8\nmodel.num_steps = 1\n"
    plan = planned(study(text, seeds=[0], samples=2))
    outcomes = carry_out(plan, tmp_path, Processes([Share(1)]))
    assert outcomes[0].problem is None
    from limner.studies import rows

    [row] = rows(outcomes)
    assert row["groups"] == 1
    assert row["steps"] == 10  # 1,297 images of the 8 x 8 digits, 128 per step
    [line] = csv.DictReader(to_csv([row]).splitlines())
    assert float(line["-ELBO"]) == row["-ELBO"]


def test_every_run_has_a_gpu_of_those_that_the_study_may_use(monkeypatch):
    monkeypatch.setattr(resources, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    plan = planned(study(seeds=[0]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
    assert [share.gpu for share in resources.shares_of(plan, 3)] == ["2", "GPU-5", "2"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [share.gpu for share in resources.shares_of(plan, None)] == ["0", "1"]
    monkeypatch.setattr(resources, "Ray", lambda address, share, gpus: (share.gpu, gpus))
    assert resources.chosen_engine("ray", None, plan, None) == (None, 1.0)  # Ray chooses it
    monkeypatch.setattr(resources, "pick_device", lambda name: torch.device("cuda:1"))
    assert resources.shares_of(plan, None)[0].gpu is None


def test_an_address_without_a_cluster_is_refused_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        _check_reachable(address)
    for wrong in (address, f"ray://{address}", "127.0.0.1:99999"):
        with pytest.raises(InputError, match="no Ray cluster at"):
            _check_reachable(wrong)
    _check_reachable(None)
    _check_reachable("auto")


def means(**elbos):
    """Averaged rows of models with the given -ELBO of each seed."""
    names = ("-L_K", "bits per dimension", "groups", "steps", "parameters")
    more = ("training seconds", "images per second", "memory")
    rest = dict.fromkeys((*names, *more), 1.0)
    found = [
        {"model": name, "seed": seed, "-ELBO": elbo} | rest
        for name, values in elbos.items()
        for seed, elbo in enumerate(values)
    ]
    return averaged(found, ["model"])


def test_the_page_says_how_certain_the_order_is(tmp_path):
    def page(**elbos):
        out = write_page(study(), means(**elbos), ["model"], {}, "<svg>", tmp_path / "a.html")
        return out.read_text()

    assert "1.50 ± 0.50 nats per image, and all others are more" in page(a=[1, 2], b=[8, 9])
    assert "1 other is within two standard errors" in page(a=[1, 3], b=[2, 3])
    assert "with one seed" in page(a=[1], b=[2])
    assert "&lt;b&gt;" in page(**{"<b>": [1]})


def test_names_are_neither_markup_nor_mathematics_nor_formulas(tmp_path):
    found = means(**{"=1+1": [1], r"$\none$ [/x]": [2]})
    plots = [("choice", "-ELBO"), ("groups", "-ELBO")]
    made = study_figure(found, ["model"], plots, "model", 100, r"$\none$ [/x]")
    made.savefig(tmp_path / "a.png")
    assert len(made.axes[1].get_legend().get_texts()) == 2  # the first panel with lines
    assert "'=1+1," in to_csv([{"model": "=1+1", "-ELBO": 1}])
    assert to_csv([{"-ELBO": -1}]) == "-ELBO\n-1\n"


def test_the_plan_of_a_study_with_brackets_is_printed(tmp_path, capsys):
    path = tmp_path / "a.toml"
    path.write_text(DEPTH.replace('"Depth"', '"[/x]"'))
    main(["study", str(path), "--dry-run"])
    assert "[/x]: 12 runs" in capsys.readouterr().out


def test_a_comparison_that_is_training_is_not_replaced(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with held(tmp_path), pytest.raises(InputError, match="Another study trains in"):
        _claim(tmp_path, overwrite=True, resume=False)
    _claim(tmp_path, overwrite=True, resume=False)
    assert not tmp_path.exists()
