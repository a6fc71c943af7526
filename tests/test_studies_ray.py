"""A study on a Ray cluster of two local nodes, one of which is killed; needs the extra [ray]."""

import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("ray")

from limner.config import RunConfig
from limner.training import train
from limner.training.runs import Run

PROGRAM = '''
import sys, tomllib
from pathlib import Path
from ray.cluster_utils import Cluster
from limner.studies import Study, carry_out, planned
from limner.studies.engines import Ray, Share

out, text = Path(sys.argv[1]), sys.argv[2]
node = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}
try:
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    other = cluster.add_node(**node)
except Exception as error:
    print(f"Ray cannot start here: {error}", file=sys.stderr)
    sys.exit(77)

def show(progress):
    """Kill a node once both runs have begun, and add another."""
    global other
    begun = [name for name in progress.under_way if (out / name / "metrics.jsonl").is_file()]
    if other is not None and len(begun) == 2:
        cluster.remove_node(other, allow_graceful=False)
        other = None
        cluster.add_node(**node)

plan = planned(Study.parse(tomllib.loads(text)))
outcomes = carry_out(plan, out, Ray(cluster.address, Share(1)), show)
assert other is None, "no node was killed"
assert [one.problem for one in outcomes] == [None, None]
'''
STUDY = """
title = "Ray"
seeds = [0, 1]
samples = 1
[base]
epochs = 150
compile = "never"
checkpoint_minutes = 0.005
data.name = "digits"
model = { kind = "draw", hidden_dim = 8, num_steps = 2, latent_dim = 4 }
"""


@pytest.mark.slow
def test_a_node_that_is_lost_loses_nothing(tmp_path):
    out = tmp_path / "study"
    command = [sys.executable, "-c", PROGRAM, str(out), STUDY]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "RAY_TMPDIR": "/tmp",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True, timeout=600
    )
    if done.returncode == 77:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    logs = [path.read_text() for path in sorted((out / "logs").glob("*.log"))]
    assert sum("limner: Stopped" in log or log.count(" parameters, ") == 2 for log in logs) >= 1
    for path in sorted(out.glob("draw-seed-*")):
        found = Run.at(path)
        assert found.metrics()[-1]["epoch"] == 150
        alone = train(RunConfig.read(path / "config.json"), tmp_path / f"alone-{path.name}")
        own, other = found.model().state_dict(), alone.model().state_dict()
        assert all(torch.equal(own[name], other[name]) for name in own)
