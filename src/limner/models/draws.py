"""Where the z of a model come from, the same for every model."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from limner.device import fill_normal

Generator = torch.Generator | Sequence[torch.Generator] | None
"""Source of noise. None is the global random state; several draw once each per image."""
Latents = Sequence[Tensor | Literal["mean"] | None] | Literal["mean"] | None
Noise = Sequence[Tensor | None] | None


class Draws:
    """The source of each group's z: new noise, given noise, the mean, or given latents.

    Args:
        generator: source of new noise; the global random state if None.
        latents: z of each group, `"mean"`, or None for a draw; one `"mean"` for all groups.
        noise: e of each group, for z = mu + sigma e; None for new noise.
    """

    def __init__(
        self,
        generator: Generator = None,
        latents: Latents = None,
        noise: Noise = None,
    ):
        self.generators = [generator] if isinstance(generator, torch.Generator) else generator
        self.copies = len(self.generators) if self.generators else 1
        self.latents: Latents = latents
        self.given_noise = noise

    def spread(self, tensor: Float[Tensor, "batch *rest"]) -> Float[Tensor, "copies_batch *rest"]:
        """`tensor` repeated for each source of noise: one row per draw."""
        return tensor.repeat(self.copies, *[1] * (tensor.dim() - 1)) if self.copies > 1 else tensor

    def given(self, group: int) -> Tensor | None:
        """The given z of `group`; None if it is to be drawn or its mean is used."""
        wanted = self._wanted(group)
        return None if isinstance(wanted, str) else wanted

    def _wanted(self, group: int) -> Tensor | Literal["mean"] | None:
        if self.latents is None or isinstance(self.latents, str):
            return self.latents
        return self.latents[group]

    def noise(self, group: int, like: Tensor) -> Tensor:
        """Standard normal noise for `group`; zero if its mean or a given z is used."""
        if self._wanted(group) is not None:
            return torch.zeros_like(like)
        if self.given_noise is not None and (given := self.given_noise[group]) is not None:
            return given
        noise = torch.empty_like(like)
        if self.generators is None:
            return fill_normal(noise, None)
        for generator, share in zip(
            self.generators, noise.chunk(len(self.generators)), strict=True
        ):
            fill_normal(share, generator)
        return noise

    def ahead(self, shapes: Sequence[Sequence[int]], like: Tensor) -> "Draws":
        """The same draws with all noise drawn now: [copies * batch of `like`, *shape] per group.

        The last group, the top of a ladder, is drawn first; on CUDA, where calls are what costs,
        all are drawn at once. The rest of the inference is then a pure function of tensors, which
        can be compiled.
        """
        rows = self.copies * like.shape[0]
        if like.is_cuda and not (self.latents or self.given_noise):
            drawn = Draws(None, None, self._at_once(shapes, like))
            drawn.copies = self.copies
            return drawn
        noise: list[Tensor | None] = [None] * len(shapes)
        for group in reversed(range(len(shapes))):
            noise[group] = self.noise(group, like.new_empty(rows, *shapes[group]))
        drawn = Draws(None, self.latents, noise)
        drawn.copies = self.copies
        return drawn

    def _at_once(self, shapes: Sequence[Sequence[int]], like: Tensor) -> list[Tensor]:
        """Noise of all groups, [copies * batch, *shape], by one call for each generator."""
        batch, sizes = like.shape[0], [math.prod(shape) for shape in shapes]
        noise = like.new_empty(self.copies, batch * sum(sizes))
        for generator, share in zip(self.generators or [None], noise, strict=True):
            fill_normal(share, generator)
        parts = noise.split([batch * size for size in sizes], dim=1)
        return [
            part.reshape(self.copies * batch, *shape)
            for part, shape in zip(parts, shapes, strict=True)
        ]

    def replayable(self) -> Callable[[], "Draws"]:
        """A source of these draws that starts over, with the same noise, each time it is called.

        The first call gives `self`. Later ones, made when a region is recomputed, give a copy whose
        generators are in the state of that first call. `recomputed` restores the global random
        state, which is used if there are no generators.
        """
        if self.generators is None:
            return lambda: self
        starts = {id(source): source.get_state() for source in self.generators}
        first = True

        def replay() -> Draws:
            nonlocal first
            if first:
                first = False
                return self
            assert self.generators is not None
            copies = {id(source): _copy(source, starts[id(source)]) for source in self.generators}
            generators = [copies[id(source)] for source in self.generators]
            return Draws(generators, self.latents, self.given_noise)

        return replay

    @property
    def requires_grad(self) -> bool:
        """Whether latents or noise that were given need a gradient."""
        given = [*(self.latents or ()), *(self.given_noise or ())]
        return any(isinstance(each, Tensor) and each.requires_grad for each in given)

    def __call__(self, group: int, distribution: Normal, prior: Normal | None = None) -> Tensor:
        """z ~ N(mu, sigma^2), differentiable in mu and sigma, or the given z.

        A `prior` is given in inference, for draws on a grid that depends on it.
        """
        given = self.given(group)
        if given is not None:
            return given
        return distribution.loc + distribution.scale * self.noise(group, distribution.loc)


def _copy(source: torch.Generator, state: Tensor) -> torch.Generator:
    """A generator in an earlier state; the global one itself, whose state `recomputed` restores."""
    if source is torch.default_generator:
        return source
    return torch.Generator(source.device).set_state(state)
