"""`Generation` and `Inference` in a notebook: what they hold, as HTML and PNG.

No model runs and no random number is drawn. At most 64 images are shown.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from torch import Tensor

from limner import notebook
from limner.layers.observation import Observation
from limner.pictures import Grid, grid, png, strided

if TYPE_CHECKING:
    from limner.models.base import Generation, Inference

STEPS = 8
"""Canvases in the strip of the first image."""
IMAGES = 16
"""Reconstructions, whose means have to be computed."""
GROUPS = 8
"""Latent groups in the table."""


def generation_html(generation: Generation) -> str:
    """The images, and of a DRAW also how the first was drawn."""
    parts = [images_html(generation.images, "images")]
    canvases = generation.canvases
    if canvases is not None and canvases.shape[1] and len(canvases) > 1:
        steps = strided(len(canvases), STEPS)
        means = _observed(generation.observation, canvases.detach()[list(steps), 0])
        counted = ", ".join(str(step + 1) for step in steps)
        parts.append(notebook.note(f"The first image after steps {counted} of {len(canvases)}:"))
        parts.append(grid_html(grid(means, len(steps)), "canvases of the first image"))
    return notebook.page(*parts)


def generation_png(generation: Generation) -> bytes | None:
    """The images in a grid; None if there are none, for which Jupyter shows the text."""
    return png(grid(generation.images).magnified()) if len(generation.images) else None


def inference_html(inference: Inference) -> str:
    """Means of -ELBO and its parts, KL of each group, and reconstructions of a trace."""
    headings, rows = inference_rows(inference)
    parts = [notebook.table(headings, rows)]
    if inference.observation is not None and len(inference.log_likelihood):
        means = reconstructions(inference.observation)
        parts.append(images_html(means, "reconstructions", len(inference.log_likelihood)))
    return notebook.page(*parts)


def inference_rows(inference: Inference) -> tuple[list[str], list[list[str]]]:
    """The heading and the rows of a table of -ELBO = reconstruction + KL; lower is better."""
    kl = inference.kl.detach().double()
    reconstruction = -inference.log_likelihood.detach().double()
    count = len(reconstruction)
    named = {
        "-ELBO": reconstruction + kl.sum(1),
        "reconstruction, -log p(x | z)": reconstruction,
        "KL": kl.sum(1),
    }
    groups = kl.shape[1]
    if groups > 1:
        named |= {f"KL of group {k + 1}": kl[:, k] for k in range(min(groups, GROUPS))}
    rows = [[name, notebook.number(_mean(values))] for name, values in named.items()]
    if groups > GROUPS:
        rest = kl[:, GROUPS:].sum(1)
        rows.append([f"KL of {groups - GROUPS} more groups", notebook.number(_mean(rest))])
    return [f"mean over {count:,} image{'' if count == 1 else 's'}", "nats per image"], rows


def reconstructions(observation: Observation) -> Tensor:
    """The mean images of the first 16 of a batch, without a graph."""
    part = copy(observation)
    for name, value in vars(observation).items():
        if isinstance(value, Tensor):
            setattr(part, name, value[:IMAGES].detach().cpu())
    return part.mean


def images_html(images: Tensor, what: str, total: int | None = None) -> str:
    """Images [n, channels, height, width] in a grid, and their number and size.

    Args:
        total: the number of images if `images` are not all.
    """
    total = len(images) if total is None else total
    _, height, width = images.shape[1:]
    text = f"{total:,} {what if total != 1 else what.removesuffix('s')}, {width} x {height}"
    if not len(images):
        return notebook.note(text)
    shown = grid(images)
    more = f"; the first {shown.shown} are shown" if total > shown.shown else ""
    return grid_html(shown, text) + notebook.note(text + more)


def grid_html(shown: Grid, alt: str) -> str:
    content = png(shown.tiled)
    return notebook.image(content, "png", shown.factor * shown.tiled.shape[1], alt)


def _observed(observation: Observation, canvas: Tensor) -> Tensor:
    """The mean image of each canvas [n, maps, height, width]."""
    return type(observation)(canvas.cpu().float()).mean


def _mean(values: Tensor) -> float | None:
    return values.mean().item() if len(values) else None
