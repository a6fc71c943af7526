"""What every model is: a sequence of latent groups that explain an image, or generate one.

    infer(x)     -> Inference    x explained: per-group KL and log p(x | z), z from the posterior
    generate(n)  -> Generation   the same decoder path, z from the prior

The objective, training, evaluation and figures are written against this page alone.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import psutil
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal

from limner.errors import InputError
from limner.layers.attention import Windows
from limner.layers.gaussian import kl_divergence, log_ratio
from limner.layers.observation import OBSERVATIONS, Observation, ObservationName
from limner.settings import Settings

ImageShape = tuple[int, int, int]
Generator = torch.Generator | Sequence[torch.Generator] | None
"""A source of noise: None is the global seed; several draw once each for every image."""
Divergence = Literal["closed_form", "sampled"]
Width = Annotated[int, Field(gt=0, le=2**16)]
"""Of a layer or a latent group: far above what trains, and below what overflows."""
MAX_LAYERS = 64
MAX_PIXELS = 2**24
"""Numbers in an image."""


class Latent(NamedTuple):
    """One latent group of an inference: posterior q, prior p and the z that was used."""

    q: Normal
    p: Normal
    z: Float[Tensor, "batch latent"]


class Inference(NamedTuple):
    """x explained. The first two fields are all that a bound needs; the rest comes with `trace`."""

    kl: Float[Tensor, "batch groups"]
    """KL(q || p) of each group in nats; with `divergence="sampled"` log q(z) - log p(z)."""
    log_likelihood: Float[Tensor, " batch"]
    """log p(x | z) in nats."""
    latents: list[Latent] | None = None
    observation: Observation | None = None
    """p(x | z)."""
    canvases: Float[Tensor, "steps batch maps height width"] | None = None
    """Canvases c_1..c_T of DRAW, before the sigmoid."""
    windows: Windows | None = None
    features: Float[Tensor, "batch features"] | None = None
    """The decoder's final state: the last deterministic features before the image."""


class Generation(NamedTuple):
    """Images from the prior, or from latents that were given."""

    images: Float[Tensor, "batch channels height width"]
    """Mean images E[x | z] in [0, 1]."""
    observation: Observation
    """p(x | z)."""
    canvases: Float[Tensor, "steps batch maps height width"] | None = None
    windows: Windows | None = None


class Draws:
    """Where the z of an inference come from: the posterior, its mean, or latents that are given."""

    def __init__(
        self,
        generator: Generator = None,
        latents: Sequence[Tensor | None] | Literal["mean"] | None = None,
    ):
        self.generators = [generator] if isinstance(generator, torch.Generator) else generator
        self.copies = len(self.generators) if self.generators else 1
        self.mean = latents == "mean"
        self.latents = None if isinstance(latents, str) else latents

    def spread(self, tensor: Float[Tensor, "batch *rest"]) -> Float[Tensor, "copies_batch *rest"]:
        """`tensor` once for every source of noise: as many rows as there are draws."""
        return tensor.repeat(self.copies, *[1] * (tensor.dim() - 1)) if self.copies > 1 else tensor

    def given(self, group: int) -> Tensor | None:
        """The z to use for `group`, where there is one."""
        return self.latents[group] if self.latents is not None else None

    def noise(self, group: int, like: Tensor) -> Tensor:
        """Fresh standard normal noise for `group`; zero where the mean is wanted."""
        if self.mean or self.given(group) is not None:
            return torch.zeros_like(like)
        noise = torch.empty_like(like)
        if self.generators is None:
            return noise.normal_()
        for generator, share in zip(
            self.generators, noise.chunk(len(self.generators)), strict=True
        ):
            share.normal_(generator=generator)
        return noise

    def ahead(self, dims: Sequence[int], like: Tensor) -> "Draws":
        """The same draws with all noise taken now: [copies of `like`'s batch, dim] of each group.

        The last group, the top of a ladder, comes first. What follows is then a pure function of
        tensors, which can be compiled.
        """
        groups = reversed(list(enumerate(dims)))
        rows = self.copies * like.shape[0]
        noise = {g: self.noise(g, like.new_empty(rows, dim)) for g, dim in groups}
        return _DrawnAhead(self, noise)

    def replayable(self) -> Callable[[], "Draws"]:
        """A source of these draws that starts over, with the same noise, each time it is called.

        The first call gives `self`; later ones, made when a checkpointed region is recomputed, a
        copy whose generator stands where it stood then. (The global seed is restored by
        `torch.utils.checkpoint`.)
        """
        if self.generators is None:
            return lambda: self
        first, starts = [self], [(g.device, g.get_state()) for g in self.generators]

        def replay() -> Draws:
            if first:
                return first.pop()
            generators = [torch.Generator(device).set_state(state) for device, state in starts]
            return Draws(generators, "mean" if self.mean else self.latents)

        return replay

    def __call__(self, group: int, distribution: Normal) -> Tensor:
        """z ~ N(mu, sigma^2), differentiable in mu and sigma, or the z that is given."""
        given = self.given(group)
        if given is not None:
            return given
        return distribution.loc + distribution.scale * self.noise(group, distribution.loc)


class _DrawnAhead(Draws):
    def __init__(self, draws: Draws, noise: dict[int, Tensor]):
        super().__init__(None, draws.latents)
        self.drawn, self.copies = noise, draws.copies

    def noise(self, group: int, like: Tensor) -> Tensor:
        return self.drawn[group]


def divergence_of(q: Normal, p: Normal | None, z: Tensor, divergence: Divergence) -> Tensor:
    """KL(q || p) in closed form or log q(z) - log p(z), [batch] nats; p is N(0, I) if None."""
    return kl_divergence(q, p) if divergence == "closed_form" else log_ratio(q, p, z)


def device_memory(device: torch.device) -> int:
    """Bytes of memory that `device` has in all."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return psutil.virtual_memory().total


class ModelConfig(Settings):
    """What the configs of all models share."""

    observation: ObservationName = Field(default="bernoulli", description="p(x | z) of a pixel")
    kind: Any
    """The model's name. Each subclass declares its own: `kind: Literal["vae"] = "vae"`."""


class LatentVariableModel(nn.Module, ABC):
    """A deep latent-variable model of images [batch, channels, height, width] in [0, 1].

    A subclass names its groups and the parameter that drawing starts from, and writes `infer` and
    `generate` over one decoder path.
    """

    compiling_pays_after: ClassVar[float] = math.inf
    """Training steps, on two cores of a CPU, that make up for the compiler's time.

    `compile="auto"` compiles for more of them.
    """

    def __init__(self, config: ModelConfig, image_shape: Sequence[int]):
        super().__init__()
        self.config = config
        self.compiled = False
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise InputError(
                f"image_shape is (channels, height, width), all at least 1; got {image_shape}."
            )
        if math.prod(image_shape) > MAX_PIXELS:
            raise InputError(
                f"Images of {image_shape} are too large for Limner; make them smaller."
            )
        channels, height, width = image_shape
        self.image_shape: ImageShape = (channels, height, width)
        self.observe = OBSERVATIONS[config.observation]
        self.canvas_shape: ImageShape = (channels * self.observe.canvases, height, width)

    @property
    @abstractmethod
    def group_names(self) -> list[str]:
        """A name for each column of `Inference.kl`."""

    @abstractmethod
    def infer(
        self,
        x: Float[Tensor, "batch channels height width"],
        generator: Generator = None,
        trace: bool = False,
        *,
        divergence: Divergence = "closed_form",
        latents: Sequence[Tensor] | Literal["mean"] | None = None,
    ) -> Inference:
        """Explain `x`: z from the posterior, KL of each group, log p(x | z).

        Args:
            x: images in [0, 1].
            generator: source of the noise; the global seed where None. Several explain `x` once
                each: what is returned then has [sources * batch] rows, the first source's first.
            trace: also return q, p, z of every group, canvases and windows.
            divergence: `closed_form` KL, or `sampled` log q(z) - log p(z) at the z drawn, whose sum
                with log p(x | z) is an importance weight.
            latents: `"mean"` carries posterior means through the groups; a tensor [batch, latent]
                for each group scores those z in place of a draw.
        """

    @abstractmethod
    def generate(
        self,
        n: int,
        generator: Generator = None,
        trace: bool = True,
        *,
        latents: Sequence[Tensor | None] | Literal["mean"] | None = None,
    ) -> Generation:
        """Generate `n` images, z from the prior.

        Args:
            trace: keep canvases and windows of every step.
            latents: z of each group [n, latent], None where it is to be drawn from the prior;
                `"mean"` takes the prior's mean in every group.
        """

    @property
    @abstractmethod
    def _output_bias(self) -> nn.Parameter:
        """The parameter, as large as a canvas, that the drawing starts from."""

    def forward(self, x: Tensor, generator: Generator = None, **options: object) -> Inference:
        return self.infer(x, generator, **options)  # type: ignore[arg-type]

    def compile_parts(self) -> None:
        """Compile the hot part of `infer`. Results agree with eager mode to rounding."""
        self.compiled = True

    def memory_mode(self, batch: int) -> Literal["store", "recompute"]:
        """Whether training on `batch` images stores all groups or recomputes them."""
        return "store"

    def stored_bytes(self, batch: int) -> int:
        """Bytes that training on `batch` images keeps for the backward pass, by a try with two."""
        seen: dict[int, int] = {}

        def count(tensor: Tensor) -> Tensor:
            seen[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        training = self.training
        with (
            torch.random.fork_rng(devices=[]),
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor),
        ):
            self.eval().infer(self._output_bias.new_zeros(2, *self.image_shape))
        self.train(training)
        parameters = {parameter.data_ptr() for parameter in self.parameters()}
        return sum(n for pointer, n in seen.items() if pointer not in parameters) * batch // 2

    def sample(
        self, n: int, generator: torch.Generator | None = None, draw: bool = False
    ) -> Float[Tensor, "n channels height width"]:
        """`n` mean images in [0, 1]; with `draw`, x ~ p(x | z)."""
        generation = self.generate(n, generator, trace=False)
        return generation.observation.sample(generator) if draw else generation.images

    @torch.no_grad()
    def init_from_images(self, images: Float[Tensor, "n channels height width"]) -> Self:
        """Start drawing from the training mean: c_0 (DRAW) or the output bias (VAE, ladder).

        The mean is clipped to [0.01, 0.99] before its logit is taken.
        """
        start = self.observe.initial_canvas(images.to(self._output_bias))
        self._output_bias.copy_(start.reshape(self._output_bias.shape))
        return self

    @property
    def num_groups(self) -> int:
        return len(self.group_names)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
