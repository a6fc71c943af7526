"""Figures of several runs side by side."""

from collections.abc import Mapping, Sequence

import torch

from limner.figures import curves, depth, grids
from limner.figures.depth import Profile
from limner.figures.gallery import Picture
from limner.figures.subject import Subject
from limner.pictures import to_rgb
from limner.report.shown import ShownPicture, shown

COLUMNS = 12
"""Images in a row."""


def pictures(
    labels: Sequence[str], subjects: Sequence[Subject], profiles: Sequence[Profile]
) -> list[ShownPicture]:
    """Samples, reconstructions, nats by depth and curves of training, as far as they apply."""
    named = dict(zip(labels, subjects, strict=True))
    found = [
        samples(named),
        reconstructions(named),
        _depth(dict(zip(labels, profiles, strict=True))),
        _curves(named),
    ]
    return [shown(picture) for picture in found if picture is not None]


@torch.no_grad()
def samples(subjects: Mapping[str, Subject]) -> Picture | None:
    """A row of samples of each model; None if their images differ in size."""
    if len({subject.model.image_shape[1:] for subject in subjects.values()}) > 1:
        return None
    rows = [
        (name, to_rgb(subject.model.sample(COLUMNS, subject.generator())))
        for name, subject in subjects.items()
    ]
    return Picture(
        "compared-samples",
        "What they draw",
        "Mean images from each model's prior, not selected.",
        f"One row of samples for each of {', '.join(subjects)}.",
        grids.labelled_rows(rows),
    )


@torch.no_grad()
def reconstructions(subjects: Mapping[str, Subject]) -> Picture | None:
    """Test images, and below them those of each model; None if the models see different ones."""
    x, *others = (subject.x[:COLUMNS] for subject in subjects.values())
    if any(not torch.equal(x, other) for other in others):
        return None
    rows = [("test images", to_rgb(x))]
    for name, subject in subjects.items():
        found = subject.model.infer(x, subject.generator(), trace=True).observation
        assert found is not None
        rows.append((name, to_rgb(found.mean)))
    return Picture(
        "compared-reconstructions",
        "What they keep",
        "The first test images, and each model's mean image given z drawn from q(z | x).",
        f"Test images, and one row of reconstructions for each of {', '.join(subjects)}.",
        grids.labelled_rows(rows),
    )


def _depth(profiles: Mapping[str, Profile]) -> Picture | None:
    if all(len(profile.kl) == 1 for profile in profiles.values()):
        return None
    counts = sorted({profile.images for profile in profiles.values()})
    images = " or ".join(f"{count:,}" for count in counts)
    return Picture(
        "compared-depth",
        "Nats against depth",
        f"Means over {images} test images. At depth k, DRAW has made k steps; a hierarchy has "
        "the top k layers from the posterior and the layers below from the prior; a VAE has one "
        "group.",
        f"Curves of −ELBO and of KL by number of latent groups, of {', '.join(profiles)}.",
        depth.nats_by_depth(profiles),
    )


def _curves(subjects: Mapping[str, Subject]) -> Picture | None:
    metrics = {name: subject.metrics for name, subject in subjects.items() if subject.metrics}
    if not metrics:
        return None
    return Picture(
        "compared",
        "How they learned",
        "−ELBO on validation images by epoch and by time spent training.",
        f"Curves of the validation −ELBO of {', '.join(metrics)}.",
        curves.compared_curves(metrics),
    )
