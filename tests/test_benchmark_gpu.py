"""The benchmark of a GPU, rehearsed: each part survives the failure of the others."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from limner.data import DataConfig

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """Its modules `__main__` and `parts`, and options for a rehearsal in `tmp_path`."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.gpu import __main__ as schedule
    from benchmarks.gpu import parts
    from benchmarks.gpu.options import Options

    options = Options(tmp_path, DataConfig(name="digits"), device="cpu", tiny=True)
    return schedule, parts, options


def broken():
    raise RuntimeError("CUDA error")


def test_a_part_that_fails_is_recorded_and_none_is_repeated(benchmark, monkeypatch, tmp_path):
    _, parts, options = benchmark
    calls = []
    found = {"a": broken, "b": lambda: calls.append("b") or {"ms": 1.0}}
    monkeypatch.setattr(parts, "parts", lambda *_: found)
    for _ in range(2):
        parts.measure(options)
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert "CUDA error" in results["a"]["failed"]
    assert results["b"] == {"ms": 1.0}
    assert calls == ["b"]


def test_no_part_starts_after_the_time(benchmark, monkeypatch, tmp_path, capsys):
    _, parts, options = benchmark
    options.minutes = 0.0
    monkeypatch.setattr(parts, "parts", lambda *_: {"a": broken})
    parts.measure(options)
    assert "a: no time left" in capsys.readouterr().out


def test_a_process_that_ends_early_is_followed_by_another(benchmark, monkeypatch, tmp_path):
    schedule, _, options = benchmark
    path = tmp_path / "gpu.json"
    ended = iter([{"about": 1, "a": 2}, {"about": 1, "a": 2, "b": 3}, None])

    def run(self, name, words, minutes):
        assert "--measure" in words
        results = next(ended)
        if results is not None:
            path.write_text(json.dumps(results))
        return False

    monkeypatch.setattr(schedule.Schedule, "run", run)
    schedule._measure(schedule.Schedule(options))
    assert next(ended, "all") == "all"


def test_a_module_is_stopped_at_its_time_and_its_output_kept(benchmark, tmp_path, capsys):
    schedule, _, options = benchmark
    runs = schedule.Schedule(options)
    assert runs.run("version", ["platform"], 1.0)
    assert "platform" in (tmp_path / "version.txt").read_text()
    assert not runs.run("none", ["no_such_module"], 1.0)
    assert not runs.run("late", ["platform"], 0.0)
    assert not runs.run("long", ["platform"], 1e-6)
    shown = capsys.readouterr().out
    assert "none: exit status 1" in shown
    assert "late: no time left" in shown
    assert "long: stopped: out of time" in shown


@pytest.mark.slow
def test_a_rehearsal_on_a_cpu_measures(tmp_path):
    flags = "--device cpu --tiny --data.name digits --only speed"
    command = [sys.executable, "-m", "benchmarks.gpu", str(tmp_path), *flags.split()]
    subprocess.run(command, cwd=ROOT, check=True)
    results = json.loads((tmp_path / "gpu.json").read_text())
    speeds = [results[name] for name in results if name.startswith("speed")]
    assert len(speeds) == 5
    for speed in speeds:
        assert speed["graph against eager, largest difference of weights"] == 0.0
        assert speed["eager: ms"] > 0
