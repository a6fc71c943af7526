"""All figures of a trained model, in order, for `limner figures` and the report."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

from limner.figures import attention, curves, films, grids, maps, scenes
from limner.figures.groups import carried_means, from_the_top
from limner.figures.neighbours import nearest
from limner.figures.style import WINDOWS, typeset
from limner.figures.subject import Subject
from limner.models import RecurrentModel
from limner.pictures import to_rgb

MAX_MAPPED = 1000
"""Points in a map; more would overlap."""


class Picture(NamedTuple):
    """A figure with its title, caption and alternative text."""

    name: str
    """File name without its suffix."""
    title: str
    caption: str
    alt: str
    figure: Figure


def pictures(subject: Subject, strips: bool = True) -> Iterator[Picture]:
    """The figures that apply to `subject`, in the order of the report.

    A page that shows films leaves out their `strips`.
    """
    return (picture for picture in candidates(subject, strips) if picture is not None)


@torch.no_grad()
def candidates(subject: Subject, strips: bool = True) -> Iterator[Picture | None]:
    """`COUNT` figures, or None for each that does not apply to `subject`."""
    for make in _PICTURES:
        if strips or make not in _STRIPS:
            yield make(subject)


def _training(subject: Subject) -> Picture | None:
    if not subject.metrics:
        return None
    last = subject.metrics[-1]
    elbo = last["validation"]["elbo"]
    told = "not finite" if elbo is None else f"{-elbo:.1f} nats"
    return Picture(
        "training",
        "Training",
        "−ELBO and its two parts, by epoch; lower is better. Validation uses the weights that are "
        "saved, training those of each step.",
        f"Curves of −ELBO, reconstruction and KL; after epoch {last['epoch']} the validation −ELBO "
        f"is {told}.",
        curves.training_curves(subject.metrics),
    )


def _kl(subject: Subject) -> Picture | None:
    names = subject.model.group_names
    known = [
        entry
        for entry in subject.metrics
        if len(entry["validation"]["kl_per_group"] or ()) == len(names)
    ]
    if not known or len(names) == 1:
        return None
    return Picture(
        "kl-per-group",
        "KL of each latent group",
        "Mean over validation images. The model does not use a group whose KL stays near zero.",
        "Bars of the KL of each latent group, and curves of it by epoch.",
        curves.kl_by_group(known, names),
    )


def _samples(subject: Subject) -> Picture:
    images = subject.model.sample(60, subject.generator())
    return Picture(
        "samples",
        "Samples",
        f"60 mean images E[x | z] with z from the prior, seed {subject.seed}; not selected.",
        "A grid of 60 images drawn by the model.",
        grids.image_grid(to_rgb(images), columns=12, width=grids.WIDTH),
    )


def _neighbours(subject: Subject) -> Picture:
    images = subject.model.sample(12, subject.generator())
    levels = subject.dataset.train.levels
    found = nearest(images.cpu(), levels)
    neighbours = levels[found.rows].float() / 255
    rows = [("sample", to_rgb(images)), ("nearest", to_rgb(neighbours))]
    return Picture(
        "nearest-training-images",
        "Samples beside the nearest training image",
        f"The nearest of {len(levels):,} training images in L2 over pixels, and the distance. "
        "Copies would mean that the model memorises training images.",
        "Samples above, their nearest training images below.",
        grids.labelled_rows(rows, [f"L2 {distance:.1f}" for distance in found.distances.tolist()]),
    )


def _reconstructions(subject: Subject) -> Picture:
    x = subject.x[:24]
    observation = subject.model.infer(x, subject.generator(), trace=True).observation
    assert observation is not None
    return Picture(
        "reconstructions",
        "Reconstructions",
        f"{len(x)} test images as the model sees them, and the mean image after one draw from "
        "q(z | x).",
        "Test images above, their reconstructions below.",
        grids.pairs(("image", to_rgb(x)), ("redrawn", to_rgb(observation.mean))),
    )


def _steps(subject: Subject) -> Picture:
    film = scenes.generation_film(subject.model, 6, subject.generator(), magnification=4)
    return Picture(
        "samples-step-by-step",
        film.title,
        film.caption,
        film.alt,
        films.strip(film, images=6),
    )


def _reconstructed_steps(subject: Subject) -> Picture:
    x = subject.x[:4]
    film = scenes.explanation_film(subject.model, x, subject.generator(), magnification=4)
    return Picture(
        "reconstructions-step-by-step",
        film.title,
        film.caption,
        film.alt,
        films.strip(film, images=4),
    )


def _where(subject: Subject) -> Picture | None:
    if subject.windows is None:
        return None
    return Picture(
        "where-it-looks",
        "Where the windows lie",
        f"Density of window centres over {len(subject.x):,} test images, by step; lighter is "
        f"denser. Rectangles are median windows: {WINDOWS}. The white line outlines the average "
        "image.",
        "Density of the centres of reading and writing windows, step by step.",
        attention.where_it_looks(
            subject.windows, subject.x.mean((0, 1)).cpu().numpy(), *scenes.filters(subject.model)
        ),
    )


def _sizes(subject: Subject) -> Picture | None:
    if subject.windows is None:
        return None
    return Picture(
        "window-size",
        "Size and sharpness of the windows",
        f"Median and 10 to 90 % band over {len(subject.x):,} test images: {WINDOWS}.",
        "Curves of the window's side and of sigma by step, for reading and writing.",
        attention.window_sizes(subject.windows, *scenes.filters(subject.model)),
    )


def _interpolations(subject: Subject, rows: int = 5, columns: int = 9) -> Picture | None:
    x = subject.x[: 2 * rows]
    rows = len(x) // 2
    if not rows:
        return None
    shares = torch.linspace(0, 1, columns, device=x.device)
    latents = [
        torch.lerp(z[:rows], z[rows : 2 * rows], shares.reshape(-1, *[1] * z.dim())).flatten(0, 1)
        for z in carried_means(subject.model, x)
    ]
    between = subject.model.generate(columns * rows, trace=False, latents=latents).images
    between = between.unflatten(0, (columns, rows))
    images = to_rgb(torch.cat([x[None, :rows], between, x[None, rows : 2 * rows]]))
    return Picture(
        "interpolations",
        "Interpolations",
        "Points on a straight line between the posterior means of two test images, in all groups "
        "at once. The outer columns are the test images.",
        f"{rows} rows, each a gradual change from one test image to another.",
        grids.walks([("", images[:, row]) for row in range(rows)], images=True),
    )


def _resampled(subject: Subject, draws: int = 4) -> Picture | None:
    model, total = subject.model, subject.model.num_groups
    if total == 1 or isinstance(model, RecurrentModel):
        return None
    x = subject.x[:3].repeat_interleave(draws, dim=0)
    held = carried_means(model, x)
    generator, names = subject.generator(), model.group_names
    rows = [("image", to_rgb(x))]
    for keep in range(total, -1, -1):
        below = total - keep
        new = typeset(names[0] if below == 1 else f"{names[0]}–{names[below - 1]}")
        label = f"{new} new" if below else "all kept"
        rows.append((label, to_rgb(from_the_top(model, held, keep, generator))))
    return Picture(
        "resampled-layers",
        "What each layer decides",
        f"Three test images, {draws} draws each. The layers named at the left are drawn from the "
        "prior; the layers above keep their posterior mean.",
        "Rows of images; in each row one more layer is drawn from the prior.",
        grids.labelled_rows(rows),
    )


def _map(subject: Subject) -> Picture | None:
    if len(subject.x) < 3:
        return None
    means = subject.means[:MAX_MAPPED].cpu().double().numpy()
    labels = subject.dataset.test.labels
    mapped = maps.project(means, subject.projection, subject.seed)
    method = "PCA" if subject.projection == "pca" else "t-SNE"
    return Picture(
        "representation",
        "The representation in two dimensions",
        f"Posterior means of all groups of {len(means):,} test images, {method}.",
        "Scatter of test images by their representation, marked by class.",
        maps.representation_map(
            mapped,
            None if labels is None else labels[: len(means)].numpy(),
            subject.dataset.class_names,
        ),
    )


_PICTURES: tuple[Callable[[Subject], Picture | None], ...] = (
    _training, _kl, _samples, _reconstructions, _steps, _reconstructed_steps, _where, _sizes,
    _neighbours, _interpolations, _resampled, _map,
)  # fmt: skip
_STRIPS = (_steps, _reconstructed_steps)
COUNT = len(_PICTURES)
"""Number of figures of a model that has all of them."""
