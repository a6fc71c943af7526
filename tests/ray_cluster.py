"""A run on a cluster of two nodes: stopped, started again, its node killed. For `test_studies_ray`.

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
samples = 1
[base]
epochs = 60
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
    """Ctrl-C once the run has begun."""
    if any(epochs(out / name) for name in progress.under_way):
        raise KeyboardInterrupt


def lose_a_node(progress) -> None:
    """Kill the node of the run once it has trained further."""
    for node in list(nodes) if len(nodes) == 2 else []:
        raylet = node.all_processes["raylet"][0].process.pid
        if any(epochs(run) > before for run in trained_by(raylet)):
            nodes.remove(node)
            cluster.remove_node(node, allow_graceful=False)


out = Path(sys.argv[1])
engines.TICK = 0.05
try:
    less = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    cluster = Cluster(initialize_head=True, head_node_args=less | {"num_cpus": 0})
    nodes = [cluster.add_node(), cluster.add_node()]
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
[run] = out.glob("draw*")
before = epochs(run)
[outcome] = carry_out(plan, out, engine, lose_a_node)
assert outcome.problem is None
assert len(nodes) == 1, "no node was killed"
ray.shutdown()
cluster.shutdown()
