"""Films of a model: generation and reconstruction, step by step.

The trace of the model decides what a film shows. With canvases, it shows the canvas after each
step, with its windows if there are any. With several groups and no canvases, the groups are fixed
one by one from the top down; the others stay at the mean of their prior. With one group, it shows
a walk through the latent space.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from limner.evaluation.interpolation import spherical
from limner.figures.films import Film
from limner.figures.groups import completed_by_means
from limner.figures.style import READ_RGB, WINDOWS, WRITE_RGB, WRITING_WINDOW
from limner.figures.windows import draw_windows
from limner.layers.attention import Windows
from limner.models import LatentVariableModel
from limner.pictures import RGB, magnify, to_rgb

STOPS, STEPS_BETWEEN = 4, 6
"""A walk: the points it passes, and the frames from one to the next."""
REACH = (
    "A window reaches from the mean of its first filter to that of its last; the line widens with "
    "sigma."
)
CAPTION = f"{WINDOWS[0].upper()}{WINDOWS[1:]}. {REACH}"
WRITING_CAPTION = f"{WRITING_WINDOW[0].upper()}{WRITING_WINDOW[1:]}. {REACH}"

CANVAS = "The mean image of the canvas after each step."


@torch.no_grad()
def generation_film(
    model: LatentVariableModel,
    n: int,
    generator: torch.Generator | None = None,
    magnification: int = 4,
) -> Film:
    """`n` samples from the prior, step by step."""
    generation = model.generate(n, generator)
    if generation.canvases is not None:
        panel = _canvases(model, generation.canvases, generation.windows, magnification)
        return Film(
            (panel,),
            ("canvas",),
            _steps(len(panel)),
            title="Samples being drawn",
            caption=CANVAS if generation.windows is None else WRITING_CAPTION,
            alt=f"{n} samples being drawn in {len(panel)} steps",
            unit="step",
        )
    assert generation.latents is not None
    if model.num_groups > 1:
        return _layers(model, generation.latents, None, magnification)
    draws = [generation] + [model.generate(n, generator) for _ in range(STOPS - 1)]
    stops = [draw.latents[0] for draw in draws if draw.latents is not None]
    panel = magnify(to_rgb(_walked(model, stops)), magnification)
    return Film(
        (panel,),
        ("sample",),
        _steps(len(panel)),
        title="A walk through the latent space",
        caption=f"Along great circles, past {STOPS} samples and back to the first.",
        alt=f"{n} walks through the latent space, from sample to sample",
        unit="frame",
    )


@torch.no_grad()
def explanation_film(
    model: LatentVariableModel,
    x: Tensor,
    generator: torch.Generator | None = None,
    magnification: int = 4,
) -> Film:
    """Reconstruction of `x` [n, C, H, W] step by step, beside the images themselves."""
    inference = model.infer(x, generator, trace=True)
    assert inference.latents is not None
    if inference.canvases is not None:
        return _reconstructed(model, x, inference.canvases, inference.windows, magnification)
    if model.num_groups > 1:
        return _layers(model, [latent.z for latent in inference.latents], x, magnification)
    order = [torch.arange(len(x)).roll(-k) for k in range(min(STOPS, len(x)))]
    means = inference.latents[0].q.loc
    walked = magnify(to_rgb(_walked(model, [means[k] for k in order])), magnification)
    nearest = [order[(2 * t + STEPS_BETWEEN) // (2 * STEPS_BETWEEN) % len(order)]
               for t in range(len(walked))]  # fmt: skip
    originals = magnify(to_rgb(torch.stack([x[k] for k in nearest])), magnification)
    return Film(
        (originals, walked),
        ("image", "redrawn"),
        _steps(len(walked)),
        title="A walk from image to image",
        caption="Between the posterior means of test images; beside it the nearest image.",
        alt=f"{len(x)} walks between reconstructions of test images, beside the nearest image",
        unit="frame",
    )


def _reconstructed(
    model: LatentVariableModel, x: Tensor, canvases: Tensor, windows: Windows | None, factor: int
) -> Film:
    """Images with the reading window, canvases with the writing window."""
    images = to_rgb(x)[None].repeat(len(canvases), axis=0)
    if windows is None or windows.read is None:
        left = magnify(images, factor)
    else:
        left = draw_windows(images, windows.read, filters(model)[0], READ_RGB, factor)
    return Film(
        (left, _canvases(model, canvases, windows, factor)),
        ("image", "canvas"),
        _steps(len(canvases)),
        title="Test images being reconstructed",
        caption=CANVAS if windows is None else CAPTION,
        alt=f"{len(x)} test images being read and redrawn in {len(canvases)} steps",
        unit="step",
    )


def _canvases(
    model: LatentVariableModel, canvases: Tensor, windows: Windows | None, factor: int
) -> RGB:
    """Canvases [T, n, maps, H, W] as magnified images, each with its writing window."""
    images = to_rgb(torch.stack([model.observe(canvas).mean for canvas in canvases]))
    if windows is None:
        return magnify(images, factor)
    return draw_windows(images, windows.write, filters(model)[1], WRITE_RGB, factor, dashed=True)


def filters(model: LatentVariableModel) -> tuple[int, int]:
    """Filters per side of the reading and the writing window of a model that has windows."""
    return tuple(getattr(model.config, name) for name in ("read_size", "write_size"))


def _layers(
    model: LatentVariableModel, latents: Sequence[Tensor], x: Tensor | None, factor: int
) -> Film:
    """Frame k has the top k groups from `latents`, the others at the mean of their prior."""
    names, total = model.group_names, model.num_groups
    images = []
    for keep in range(1, total + 1):
        images.append(completed_by_means(model, latents, keep))
    panel = magnify(to_rgb(torch.stack(images)), factor)
    captions = tuple(
        names[-1] if keep == 1 else f"{names[-1]}–{names[total - keep]}"
        for keep in range(1, total + 1)
    )
    caption = "The named layers are drawn; those below are at the mean of their prior."
    unit = "layers drawn"
    if x is None:
        alt = f"{len(latents[0])} samples, layers fixed one by one from the top"
        return Film((panel,), ("sample",), captions, "Samples, layer by layer", caption, alt, unit)
    originals = magnify(to_rgb(x), factor)[None].repeat(total, axis=0)
    alt = f"{len(x)} reconstructions, layers fixed one by one from the top"
    title = "Test images, layer by layer"
    return Film((originals, panel), ("image", "redrawn"), captions, title, caption, alt, unit)


def _walked(model: LatentVariableModel, stops: Sequence[Tensor]) -> Tensor:
    """Mean images [T, n, C, H, W] on a round trip through latents [n, *shape]."""
    places = torch.stack(round_trip(stops, STEPS_BETWEEN))
    z = places.flatten(0, 1)
    images = model.generate(len(z), trace=False, latents=[z]).images
    return images.unflatten(0, places.shape[:2])


def round_trip(stops: Sequence[Tensor], steps: int) -> list[Tensor]:
    """`steps` points from each stop [n, *shape] to the next, and from the last to the first.

    They lie on great circles: the midpoint of two Gaussian draws is then about as far from zero as
    the draws, where most of the prior's mass is.
    """
    flat, shape = [stop.flatten(1) for stop in stops], stops[0].shape[1:]
    places = []
    for a, b in zip(flat, [*flat[1:], flat[0]], strict=True):
        places.extend(spherical(a, b, k / steps).unflatten(1, shape) for k in range(steps))
    return places


def _steps(count: int) -> tuple[str, ...]:
    return tuple(f"{t} of {count}" for t in range(1, count + 1))
