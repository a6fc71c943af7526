"""`limner.compare`: evaluations and runs side by side."""

import pytest
import torch

import limner
from limner.commands.evaluate import Options, evaluate_run
from limner.data import DataConfig, load
from limner.models import LadderVAEConfig, VAEConfig, build


@pytest.fixture(scope="module")
def digits():
    return load(DataConfig(name="digits"))


def evaluation(digits, seed, config=VAEConfig(hidden_dims=(8,), latent_dim=2), **options):  # noqa: B008
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(config, digits.image_shape)
    return limner.evaluate(model, digits, **{"num_samples": 3, "num_images": 40} | options)


def test_seeds_are_averaged_for_each_image_and_differences_are_paired(digits):
    ladder = LadderVAEConfig(hidden_dims=(8, 4), latent_dims=(3, 2))
    vaes, other = [evaluation(digits, seed) for seed in (0, 1)], evaluation(digits, 2, ladder)
    rows = limner.compare({"VAE": vaes, "ladder": other})
    first = {row["name"]: row for row in rows}
    mean = torch.stack([one.elbo.per_image.double() for one in vaes]).mean(0)
    assert first["VAE"]["elbo"]["mean"] == pytest.approx(mean.mean().item())
    assert first["VAE"]["elbo"]["stderr"] == pytest.approx((mean.std() / 40**0.5).item())
    spread = torch.tensor([one.elbo.mean for one in vaes]).std().item()
    assert first["VAE"]["seed_spread"] == pytest.approx(spread)
    best, worse = sorted(rows, key=lambda row: -row["elbo"]["mean"])
    assert best["difference_to_best"] is None
    gap = mean - other.elbo.per_image.double()
    gap = -gap if worse["name"] == "ladder" else gap
    assert worse["difference_to_best"]["mean"] == pytest.approx(gap.mean().item())
    assert worse["difference_to_best"]["stderr"] == pytest.approx((gap.std() / 40**0.5).item())
    html = rows._repr_html_()
    assert f"{-first['ladder']['elbo']['mean']:.2f}" in html
    assert "unknown" not in html
    assert repr(rows).startswith("Comparison(-ELBO: VAE ")


def test_other_images_cannot_be_compared(digits):
    one = evaluation(digits, 0)
    for options in ({"num_images": 30}, {"split": "validation"}):
        with pytest.raises(limner.InputError, match="different images"):
            limner.compare({"a": one, "b": evaluation(digits, 0, **options)})


def test_runs_on_other_images_of_the_same_name_cannot_be_compared(tmp_path):
    """Images that are given in memory have one name in all run folders."""
    for seed in (0, 1):
        source = torch.Generator().manual_seed(seed)
        images = limner.data.from_arrays(
            torch.rand(40, 8, 8, generator=source), validation=5, test=5
        )
        out = tmp_path / str(seed)
        limner.fit("vae", images, epochs=1, device="cpu", compile="never", out=out)
        evaluate_run(limner.Run.open(out), Options(num_samples=2))
    limner.compare({"a": tmp_path / "0", "b": tmp_path / "0"})
    with pytest.raises(limner.InputError, match="different images"):
        limner.compare({"a": tmp_path / "0", "b": tmp_path / "1"})


def test_what_cannot_be_compared_is_refused(digits):
    for given, words in (
        ({}, "at least one"),
        ([1], "mapping"),
        ({"a": []}, "no evaluation of a"),
        ({"a": [3]}, "not int"),
        ({"a": build(VAEConfig(hidden_dims=(2,), latent_dim=1), (1, 2, 2))}, "not VAE"),
        ({"a": "no-run-of-that-name"}, "no run folder"),
    ):
        with pytest.raises(limner.InputError, match=words):
            limner.compare(given)
