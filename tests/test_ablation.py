"""The ablation: each variant trained once, measured on validation images, told in one table."""

import json

import pytest

from limner.training.runs import Run
from test_named import script, tiny

MINUTES = 0.002


@pytest.fixture
def ablation(tmp_path, monkeypatch):
    module = script("ablation")
    variants = {"the paper's": {}, "another seed": {"seed": 4}}
    for name, value in {"RESULTS": tmp_path, "PAPER": tiny(), "VARIANTS": variants}.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_the_table_tells_what_each_variant_reached(ablation, tmp_path):
    ablation.ablate(data=tmp_path, minutes=MINUTES, out=tmp_path / "runs")
    facts = json.loads((tmp_path / "ablation.json").read_text())
    reached = [
        Run.at(tmp_path / "runs" / folder).metrics()[-1]["validation"]["elbo"]
        for folder in ("the-paper-s", "another-seed")
    ]
    assert [row["elbo"] for row in facts["variants"]] == reached
    assert all(row["iw_bound"] > row["elbo"] for row in facts["variants"])
    page = (tmp_path / "ablation.md").read_text()
    assert f"| the paper's | {-reached[0]:.2f} |" in page
    assert f"| {reached[1] - reached[0]:+.2f} |" in page
    assert f"{MINUTES:g} minutes" in page


def test_finished_variants_are_kept_and_changed_ones_trained_anew(ablation, tmp_path, monkeypatch):
    trained = []

    def train(config, folder, **options):
        trained.append(folder.name)
        return genuine(config, folder, **options)

    genuine = ablation.train
    monkeypatch.setattr(ablation, "train", train)
    for minutes in (MINUTES, MINUTES, 2 * MINUTES):
        ablation.ablate(data=tmp_path, minutes=minutes, out=tmp_path / "runs")
    assert trained == ["the-paper-s", "another-seed"] * 2
