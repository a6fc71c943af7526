"""The answers of the playground: images and numbers in, scenes out."""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.app.drawings import Drawing, Levels, as_seen, known_pixels, levels_of
from limner.app.panels import read_and_written, still, written
from limner.app.scene import Panel, Scene
from limner.data import DataConfig, load
from limner.data.known import TAKEN_FROM
from limner.errors import InputError
from limner.evaluation import set_num_steps
from limner.evaluation.completion import complete
from limner.evaluation.interpolation import decode_noise, noise_of_images, walk
from limner.figures.groups import completed_by_means
from limner.figures.scenes import STEPS_BETWEEN, STOPS, generation_film
from limner.models import Inference, LatentVariableModel, RecurrentModel
from limner.objectives import elbo
from limner.pictures import magnify, to_rgb
from limner.training.runs import Run

EASEL_SIDE = 280
"""Approximate size of an easel, in pixels."""
MAX_PIXELS, MAX_SEED = 2**25, 2**32 - 1
MAX_STEPS, MAX_SAMPLES, MAX_FRAMES, MAX_ROUNDS, CHAINS, FUTURES = 128, 36, 60, 100, 3, 6
MISSING_RGB = np.array((70, 50, 110))
"""The colour of erased parts."""
GLIMPSE = (
    "The line of a window widens with the blur of its filters, and dots are the centres of earlier "
    "steps. Glimpse: what the encoder sees, above of the image, below of the error (image minus "
    "canvas, grey is zero)."
)
LAYERS = "Layer 1 is the top one; layers below the one shown are at the mean of their prior."


@dataclass(frozen=True, eq=False)
class Player:
    """A trained model that answers drawings. It is immutable: `with_steps` returns another."""

    run: Run
    model: LatentVariableModel

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def steps(self) -> int | None:
        """Steps of a recurrent model; None for a model without steps."""
        return self.model.num_steps if isinstance(self.model, RecurrentModel) else None

    @property
    def unit(self) -> str:
        """What a latent group is, in words."""
        return "layer" if self.steps is None else "step"

    @property
    def max_steps(self) -> int:
        """The most steps: twice as many as in training, within limits."""
        trained = self.steps or 1
        return max(trained, min(MAX_STEPS, max(32, 2 * trained)))

    def with_steps(self, num_steps: float | None) -> "Player":
        """The same weights with another number of steps, if the model has steps."""
        if self.steps is None or num_steps is None:
            return self
        number = whole(num_steps, 1, self.max_steps, "number of steps")
        return Player(self.run, set_num_steps(copy.copy(self.model), number))

    @cached_property
    def examples(self) -> Tensor:
        """Levels [n, C, H, W] to start from: test images, or samples if there are none.

        Digits that are installed stand for those of a dataset that would be downloaded.
        """
        data = self.run.data
        for name, wholes in TAKEN_FROM.items():
            if data.name in wholes and data.root is None:
                return load(DataConfig(name=name)).test.levels
        try:
            return self.run.dataset().test.levels
        except InputError:
            images = self.model.sample(64, torch.Generator().manual_seed(0))
            return (images * 255).round().to(torch.uint8).cpu()

    def example(self, number: int) -> Levels:
        """One of the examples as a picture for an easel."""
        levels = self.examples[number % len(self.examples)]
        return magnify(to_rgb(levels / 255), magnification(self.model, EASEL_SIDE))

    def placed(self, drawing: Drawing) -> Levels:
        """A drawing in the form the model gets it, as a picture for an easel."""
        levels = levels_of(drawing, self.model.image_shape)[0]
        return magnify(to_rgb(levels / 255), magnification(self.model, EASEL_SIDE))

    def seen(self, drawing: Drawing) -> Tensor:
        """A drawing as the model sees it, [1, C, H, W] on its device."""
        levels = levels_of(drawing, self.model.image_shape)
        config = self.run.config
        seen = as_seen(levels, config.model.observation, config.data.binarization)
        return seen.to(self.device)

    @torch.no_grad()
    def redrawn(self, x: Tensor) -> Scene:
        """An image [1, C, H, W] reconstructed step by step, with its -ELBO in nats."""
        groups = self.model.num_groups
        self._check(2 * groups)
        inference = self.model.infer(x, generator(0), trace=True)
        assert inference.observation is not None
        assert inference.latents is not None
        kl = inference.kl[0].tolist()
        scene = Scene((), (), "the image and its reconstruction", said=sentence(inference))
        if groups == 1 and inference.canvases is None:
            drawn = Panel("reconstruction", to_rgb(inference.observation.mean)[None])
            return scene._replace(panels=(still("your image", x), drawn), captions=("at once",))
        if inference.canvases is not None:
            assert isinstance(self.model, RecurrentModel)
            windows = inference.windows
            panels = read_and_written(self.model, x, inference.canvases, windows)
            caption = "" if windows is None else GLIMPSE
        else:
            held, kl = [latent.z for latent in inference.latents], kl[::-1]
            means = [completed_by_means(self.model, held, k + 1) for k in range(groups)]
            panels = still("your image", x), Panel("reconstruction", to_rgb(torch.stack(means)))
            caption = LAYERS
        return scene._replace(
            panels=panels,
            captions=counted(self.unit, groups),
            caption=caption,
            unit=self.unit,
            kl=tuple(kl),
        )

    @torch.no_grad()
    def resampled(self, x: Tensor, keep: Any, seed: Any) -> Scene:
        """Several ways to continue an image [1, C, H, W] after its first `keep` steps.

        z_1..z_keep are those of the posterior in `redrawn`, later ones are drawn from the prior. In
        a hierarchy of layers, the top `keep` are kept.
        """
        groups, recurrent = self.model.num_groups, self.steps is not None
        kept = whole(keep, 1, max(1, groups - 1), f"last {self.unit} to keep")
        source = generator(whole(seed, 0, MAX_SEED, "seed"))
        self._check(FUTURES * groups)
        latents = self.model.infer(x, generator(0), trace=True).latents or []
        held = [z.expand(FUTURES, *z.shape[1:]) for _, _, z in latents]
        fresh: list[Any] = [None] * (groups - kept)
        given = held[:kept] + fresh if recurrent else fresh + held[groups - kept :]
        generation = self.model.generate(FUTURES, source, latents=given)
        plural = f"the first {kept} {self.unit}s" if kept > 1 else f"the first {self.unit}"
        scene = Scene(
            (Panel("resampled", to_rgb(generation.images)[None]),),
            (f"{self.unit}s {kept + 1} to {groups}",),
            f"{FUTURES} images that share {plural}",
            f"z of {plural} is kept from the posterior of your image; the rest is drawn from the "
            "prior, differently in each image.",
            ask={"keep": kept, "seed": int(seed)},
        )
        if generation.canvases is None:
            return scene
        panel = written(self.model, "resampled", generation.canvases, generation.windows, kept - 1)
        return scene._replace(panels=(panel,), captions=counted("step", groups)[kept - 1 :])

    @torch.no_grad()
    def sampled(self, count: float, seed: float) -> Scene:
        """`count` samples from the prior, step by step."""
        n = whole(count, 1, MAX_SAMPLES, "number of samples")
        source = generator(whole(seed, 0, MAX_SEED, "seed"))
        self._check(n * max(self.model.num_groups, STOPS * STEPS_BETWEEN))
        if self.steps is None:
            film = generation_film(self.model, n, source, 1)
            panel = Panel(film.panel_names[0], film.panels[0])
            if self.model.num_groups == 1:
                return Scene((panel,), film.captions, film.alt, film.caption)
            return Scene((panel,), counted(self.unit, len(film.captions)), film.alt, LAYERS)
        generation = self.model.generate(n, source)
        assert generation.canvases is not None
        panel = written(self.model, "canvas", generation.canvases, generation.windows)
        alt = f"{n} samples being drawn in {self.steps} steps"
        return Scene((panel,), counted("step", self.steps), alt)

    def walked(self, x: Tensor, frames: float) -> Scene:
        """A walk from one image to the other of x [2, C, H, W], through all latents at once."""
        count = whole(frames, 2, MAX_FRAMES, "number of frames")
        self._check(count)
        noise = noise_of_images(self.model, x)
        images = decode_noise(self.model, walk(noise[0], noise[1], count, "sphere"))
        panels = (
            still("from", x[:1]),
            Panel("between", to_rgb(images)[:, None]),
            still("to", x[1:]),
        )
        alt = f"a walk between two drawings in {count} frames"
        return Scene(panels, counted("frame", count), alt, strip=1)

    def completed(self, drawing: Drawing, rounds: float, seed: float) -> Scene:
        """The erased part of a drawing, completed by a few chains."""
        count = whole(rounds, 1, MAX_ROUNDS, "number of rounds")
        source = generator(whole(seed, 0, MAX_SEED, "seed"))
        known = known_pixels(drawing.erased, self.model.image_shape[1:])
        if known.all():
            raise InputError("Nothing is erased yet; erase the part to complete.")
        self._check((CHAINS + 1) * count)
        x = self.seen(drawing)
        repeated = x.expand(CHAINS, -1, -1, -1)
        chain = complete(self.model, repeated, known.to(self.device), count, source)
        shown = np.where(known[0, 0, ..., None].numpy(), to_rgb(x), MISSING_RGB).astype(np.uint8)
        chains = (Panel(f"chain {k + 1}", to_rgb(chain.means[:, [k]])) for k in range(CHAINS))
        alt = f"an image with a part erased, and {CHAINS} chains that complete it"
        return Scene((Panel("known", shown[None]), *chains), counted("round", count), alt)

    def _check(self, images: int) -> None:
        """Refuse what would not fit in memory, before any work."""
        _, height, width = self.model.image_shape
        if images * height * width > MAX_PIXELS:
            raise InputError("That is more than the page can show; ask for fewer images or steps.")


def sentence(inference: Inference) -> str:
    """The -ELBO of one image and its parts, in nats."""
    total, kl = -elbo(inference).item(), inference.kl.sum().item()
    reconstruction = -inference.log_likelihood.item()
    return (
        f"-ELBO {total:.1f} nats (lower is better) = reconstruction {reconstruction:.1f} + KL "
        f"{kl:.1f}"
    ).replace("-", "−")


def counted(unit: str, count: int) -> tuple[str, ...]:
    return tuple(f"{unit} {k} of {count}" for k in range(1, count + 1))


def whole(number: Any, low: int, high: int, what: str) -> int:
    """A whole number from a field of the page.

    Raises:
        InputError: it is not a whole number, or out of range.
    """
    if isinstance(number, int | float) and low <= number <= high and number == int(number):
        return int(number)
    raise InputError(f"The {what} must be a whole number from {low} to {high}.")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def magnification(model: LatentVariableModel, side: int) -> int:
    """Side of each pixel in screen pixels, so that the longer side of an image is about `side`."""
    return max(1, round(side / max(model.image_shape[1:])))
