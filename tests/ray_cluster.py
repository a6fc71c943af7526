"""A study on two nodes: it is stopped, started again, and loses a node. For `test_studies_ray`.

ray_cluster.py OUT
"""

import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import psutil
import ray
from ray.cluster_utils import Cluster

from limner.studies import Study, carry_out, engines, planned
from limner.studies.engines import Ray, Share

STUDY = """
title = "Ray"
seeds = [0, 1]
samples = 1
[base]
epochs = 80
compile = "never"
checkpoint_minutes = 0.002
data.name = "digits"
model = { kind = "draw", hidden_dim = 8, num_steps = 2, latent_dim = 4 }
"""


def epochs(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.is_file() else 0


def trained_by(process: int) -> list[Path]:
    """Folders of the runs that the descendants of a process train."""
    runs = []
    for child in psutil.Process(process).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if "limner.studies.working" in (command := child.cmdline()):
                runs.append(Path(command[-2]))
    return runs


def stop(progress) -> None:
    """Ctrl-C once a run has begun."""
    if any(epochs(out / name) for name in progress.under_way):
        raise KeyboardInterrupt


def lose_a_node(progress) -> None:
    """Kill the second node once its run has trained further."""
    if other not in cluster.worker_nodes:
        return
    raylet = other.all_processes["raylet"][0].process.pid
    for run in trained_by(raylet):
        if epochs(run) > before.get(run.name, 0):
            cluster.remove_node(other, allow_graceful=False)
            print("lost with its node:", run.name)


out = Path(sys.argv[1])
engines.TICK = 0.05
try:
    less = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    cluster = Cluster(initialize_head=True, head_node_args=less)
    other = cluster.add_node()
except Exception as error:
    print(f"Ray cannot start here: {error}", file=sys.stderr)
    sys.exit(77)
plan = planned(Study.parse(tomllib.loads(STUDY)))
engine = Ray(cluster.address, Share(1))
try:
    carry_out(plan, out, engine, stop)
    raise AssertionError("no run was seen under way")
except KeyboardInterrupt:
    assert trained_by(psutil.Process().pid) == []
before = {run.name: epochs(run) for run in out.iterdir()}
assert any("limner: Stopped" in log.read_text() for log in (out / "logs").iterdir())
outcomes = carry_out(plan, out, engine, lose_a_node)
assert [one.problem for one in outcomes] == [None, None]
assert other not in cluster.worker_nodes, "no node was killed"
ray.shutdown()
cluster.shutdown()
