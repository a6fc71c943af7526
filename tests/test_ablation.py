"""The ablation: each variant is trained once and measured on validation images; one table."""

import json

import pytest
import torch

from limner.models import DRAWConfig, build
from limner.training.runs import Run
from test_named import script, tiny

MINUTES = 0.002


ablation = script("ablation")


@pytest.fixture
def ablate(tmp_path):
    """Two small groups, trained and written under `tmp_path`."""
    variant = ablation.Variant
    variants = {"the paper's": variant({}), "another seed": variant({"seed": 4})}
    in_two = {"whole": variant({}), "in two": variant({}, {"seed": 5})}
    groups = {
        "seeds": ablation.Group("Two seeds", tiny(), variants),
        "ends": ablation.Group("Two ends", tiny(), in_two),
    }

    def measure(*chosen, minutes=MINUTES):
        ablation.measure(groups, chosen, tmp_path, minutes, tmp_path / "runs", tmp_path)

    return measure


def test_the_table_tells_what_each_variant_reached(ablate, tmp_path):
    ablate("seeds")
    facts = json.loads((tmp_path / "ablation.json").read_text())
    reached = [
        Run.at(tmp_path / "runs" / "seeds" / folder).metrics()[-1]["validation"]["elbo"]
        for folder in ("the-paper-s", "another-seed")
    ]
    assert [row["elbo"] for row in facts["groups"]["seeds"]["variants"]] == reached
    assert all(row["iw_bound"] > row["elbo"] for row in facts["groups"]["seeds"]["variants"])
    page = (tmp_path / "ablation.md").read_text()
    assert f"| the paper's | {-reached[0]:.2f} |" in page
    assert f"| {reached[1] - reached[0]:+.2f} |" in page
    assert f"{MINUTES:g} minutes" in page


def test_finished_variants_are_kept_and_changed_ones_trained_anew(ablate, tmp_path):
    def trained(minutes):
        """When the model of each variant was written."""
        ablate("seeds", minutes=minutes)
        models = sorted((tmp_path / "runs" / "seeds").glob("*/model.safetensors"))
        assert [path.parent.name for path in models] == ["another-seed", "the-paper-s"]
        return [path.stat().st_mtime_ns for path in models]

    first = trained(MINUTES)
    assert trained(MINUTES) == first
    assert all(new > old for new, old in zip(trained(2 * MINUTES), first, strict=True))


def test_an_end_of_its_own_follows_the_rest_and_other_groups_stay_as_written(ablate, tmp_path):
    ablate("ends")
    ablate("seeds")
    first, last = (Run.at(tmp_path / "runs" / "ends" / name) for name in ("in-two", "in-two-last"))
    assert last.config.start_from == str(first.path)
    assert last.config.seed == 5
    assert (first.config.minutes, last.config.minutes) == (0.8 * MINUTES, 0.2 * MINUTES)
    epochs = [run.metrics()[-1]["epoch"] for run in (first, last)]
    facts = json.loads((tmp_path / "ablation.json").read_text())["groups"]
    assert facts["ends"]["variants"][1]["epochs"] == sum(epochs)
    page = (tmp_path / "ablation.md").read_text()
    assert page.index("Two seeds") < page.index("Two ends")


def test_plain_windows_do_not_start_over_the_whole_image():
    config = DRAWConfig(num_steps=1, hidden_dim=4, latent_dim=2, attention="filterbank")
    covering = build(config, (1, 8, 8)).heads.bias.detach()
    with ablation._plain_windows():
        torch.manual_seed(0)
        plain = build(config, (1, 8, 8)).heads.bias.detach()
    assert (covering[:-10] == 0).all()
    assert (plain != covering).all()
    assert torch.equal(build(config, (1, 8, 8)).heads.bias.detach(), covering)
