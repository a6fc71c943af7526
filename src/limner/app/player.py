"""The answers of the playground: images and numbers in, films out."""

import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from limner.app.drawings import Drawing, Levels, as_seen, known_pixels, levels_of
from limner.errors import InputError
from limner.evaluation import set_num_steps
from limner.evaluation.completion import complete
from limner.evaluation.interpolation import decode_noise, noise_of_images, walk
from limner.figures.films import Film
from limner.figures.scenes import STEPS_BETWEEN, STOPS, explanation_film, generation_film
from limner.models import LatentVariableModel, RecurrentModel
from limner.objectives import elbo
from limner.pictures import RGB, columns_for, magnify, to_rgb
from limner.training.runs import Run

SIDE, EASEL_SIDE = 224, 280
"""Approximate sizes of an image on the page and of an easel, in pixels."""
MAX_PIXELS, MAX_SEED = 2**26, 2**32 - 1
MAX_STEPS, MAX_SAMPLES, MAX_FRAMES, MAX_ROUNDS, CHAINS = 128, 36, 60, 100, 3
MISSING_RGB = np.array((70, 50, 110))
"""The colour of erased parts."""


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
        """Levels [n, C, H, W] to start from: test images, or samples if there are none."""
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
    def redrawn(self, x: Tensor) -> tuple[Film, str]:
        """An image [1, C, H, W] reconstructed step by step, and its bound in nats."""
        self._check(2, magnification(self.model))
        inference = self.model.infer(x, generator(0), trace=True)
        said = (
            f"ELBO {elbo(inference).item():.1f} nats = log p(x | z) "
            f"{inference.log_likelihood.item():.1f} − KL {inference.kl.sum().item():.1f}"
        ).replace("-", "−")
        factor = magnification(self.model)
        if inference.canvases is not None or self.model.num_groups > 1:
            return explanation_film(self.model, x, generator(0), factor), said
        assert inference.observation is not None
        images = (x, inference.observation.mean)
        panels = tuple(magnify(to_rgb(image)[None], factor) for image in images)
        return Film(panels, ("image", "redrawn"), ("at once",), "", "", "the image redrawn"), said

    def sampled(self, count: float, seed: float) -> Film:
        """`count` samples from the prior, step by step."""
        n = whole(count, 1, MAX_SAMPLES, "number of samples")
        source = generator(whole(seed, 0, MAX_SEED, "seed"))
        factor = magnification(self.model, 2 * SIDE // columns_for(n))
        self._check(n, factor)
        return generation_film(self.model, n, source, factor)

    def walked(self, x: Tensor, frames: float) -> Film:
        """A walk from one image to the other of x [2, C, H, W], through all latents at once."""
        count = whole(frames, 2, MAX_FRAMES, "number of frames")
        factor = magnification(self.model)
        self._check(1, factor, count)
        noise = noise_of_images(self.model, x)
        images = decode_noise(self.model, walk(noise[0], noise[1], count, "sphere"))
        panel = magnify(to_rgb(images)[:, None], factor)
        captions = tuple(f"{k} of {count}" for k in range(1, count + 1))
        alt = f"a walk between two drawings in {count} frames"
        return Film((panel,), ("between the two",), captions, "", "", alt)

    def completed(self, drawing: Drawing, rounds: float, seed: float) -> Film:
        """The erased part of a drawing, completed by a few chains."""
        count = whole(rounds, 1, MAX_ROUNDS, "number of rounds")
        source = generator(whole(seed, 0, MAX_SEED, "seed"))
        known = known_pixels(drawing.erased, self.model.image_shape[1:])
        if known.all():
            raise InputError("Nothing is erased yet; erase the part to complete.")
        factor = magnification(self.model)
        self._check(CHAINS + 1, factor, count)
        x = self.seen(drawing)
        repeated = x.expand(CHAINS, -1, -1, -1)
        chain = complete(self.model, repeated, known.to(self.device), count, source)
        shown = np.where(known[0, 0, ..., None].numpy(), to_rgb(x), MISSING_RGB).astype(np.uint8)
        erased = np.repeat(magnify(shown, factor)[None], count, axis=0)
        panels = [magnify(to_rgb(chain.means[:, [k]]), factor) for k in range(CHAINS)]
        names = tuple(f"chain {k}" for k in range(1, CHAINS + 1))
        captions = tuple(f"round {k} of {count}" for k in range(1, count + 1))
        alt = f"an image with a part erased, and {CHAINS} chains that complete it"
        return Film((erased, *panels), ("known", *names), captions, "", "", alt)

    def _check(self, images: int, factor: int, frames: int | None = None) -> None:
        """Refuse what would not fit in memory, before any work."""
        _, height, width = self.model.image_shape
        frames = frames or max(self.model.num_groups, STOPS * STEPS_BETWEEN)
        if images * frames * height * width * factor**2 > MAX_PIXELS:
            raise InputError("That is more than the page can show; ask for fewer images or steps.")


def whole(number: float | None, low: int, high: int, what: str) -> int:
    """A whole number from a field of the page.

    Raises:
        InputError: it is not a whole number, or out of range.
    """
    if isinstance(number, int | float) and low <= number <= high and number == int(number):
        return int(number)
    raise InputError(f"The {what} must be a whole number from {low} to {high}.")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def magnification(model: LatentVariableModel, side: int = SIDE) -> int:
    """Side of each pixel in screen pixels, so that the longer side of an image is about `side`."""
    return max(1, round(side / max(model.image_shape[1:])))


def sheet(film: Film) -> RGB:
    """Frames [T, height, width, 3] of a film; for one image its panels are in one row."""
    return film.frames(1) if film.size == 1 else film.frames()
