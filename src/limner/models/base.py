"""The interface of every model: a sequence of latent groups, for inference and generation.

    infer(x)     -> Inference    KL of each group and log p(x | z), with z from the posterior
    generate(n)  -> Generation   the same decoder, with z from the prior

Objectives, training, evaluation and figures use only this interface.
"""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from limner.errors import InputError
from limner.layers.attention import Windows
from limner.layers.compiling import compiled, differentiable_once
from limner.layers.gaussian import kl_divergence, log_ratio
from limner.layers.observation import OBSERVATIONS, Observation
from limner.models import representations
from limner.models.checks import (
    check_form,
    check_image_shape,
    check_latents,
    check_model_dtype,
    check_values,
)
from limner.models.configs import ModelConfig
from limner.models.draws import Draws, Generator, Latents, Noise
from limner.models.memory import SavedFloats, saved_per_image
from limner.transforms import transformed

ImageShape = tuple[int, int, int]
Divergence = Literal["closed_form", "sampled"]
MAX_PIXELS = 2**24
"""Values per image: channels * height * width."""


class Latent(NamedTuple):
    """One latent group of an inference: posterior q, prior p and the z in use."""

    q: Normal
    p: Normal
    z: Float[Tensor, "batch *shape"]


class Inference(NamedTuple):
    """The result of `infer`. A bound needs the first two fields; `trace` fills the others."""

    kl: Float[Tensor, "batch groups"]
    """KL(q || p) of each group in nats; log q(z) - log p(z) with `divergence="sampled"`."""
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

    def __repr__(self) -> str:
        return f"Inference(kl={[*self.kl.shape]}, log_likelihood={[*self.log_likelihood.shape]})"

    def _repr_html_(self) -> str:
        return representations.inference_html(self)


class Generation(NamedTuple):
    """Images from the prior or from given latents."""

    images: Float[Tensor, "batch channels height width"]
    """Mean images E[x | z] in [0, 1]."""
    observation: Observation
    """p(x | z)."""
    canvases: Float[Tensor, "steps batch maps height width"] | None = None
    windows: Windows | None = None
    latents: list[Tensor] | None = None
    """z of each group [batch, *shape], with `trace`."""

    def __repr__(self) -> str:
        return f"Generation(images={[*self.images.shape]})"

    def _repr_html_(self) -> str:
        return representations.generation_html(self)

    def _repr_png_(self) -> bytes | None:
        return representations.generation_png(self)


def divergence_of(q: Normal, p: Normal, z: Tensor, divergence: Divergence) -> Tensor:
    """KL(q || p) in closed form or log q(z) - log p(z), [batch] nats."""
    return kl_divergence(q, p) if divergence == "closed_form" else log_ratio(q, p, z)


class LatentVariableModel(nn.Module, ABC):
    """A deep latent-variable model of images [batch, channels, height, width] in [0, 1].

    A subclass defines `latent_shapes`, `_output_bias`, `_infer` and `_generate`. The last two share
    one decoder.
    """

    compiling_pays_after: ClassVar[float] = math.inf
    """Training steps after which compiling has saved time, on two cores of a CPU.

    `compile="auto"` compiles if training takes more steps.
    """

    renamed: ClassVar[Mapping[str, str]] = {}
    """Prefixes of weight names in earlier versions, and the current prefixes."""

    def __init__(self, config: ModelConfig, image_shape: Sequence[int]):
        super().__init__()
        if not isinstance(config, ModelConfig):
            raise InputError(
                f"{type(self).__name__} takes a config such as {type(self).__name__}Config(); got "
                f"{type(config).__name__}."
            )
        self.config = config
        self.compiled = False
        self.register_load_state_dict_pre_hook(_rename)
        check_image_shape(image_shape)
        if math.prod(image_shape) > MAX_PIXELS:
            raise InputError(
                f"Images of {image_shape} are too large for Limner; make them smaller."
            )
        channels, height, width = image_shape
        self.image_shape: ImageShape = (channels, height, width)
        self.observe = OBSERVATIONS[config.observation]
        self.canvas_shape: ImageShape = (self.observe.maps(channels), height, width)

    @property
    @abstractmethod
    def latent_shapes(self) -> list[tuple[int, ...]]:
        """The shape of each latent group of one image."""

    @property
    def group_names(self) -> list[str]:
        """A name for each column of `Inference.kl`."""
        return [f"z_{group}" for group in range(1, self.num_groups + 1)]

    def infer(
        self,
        x: Tensor,
        generator: Generator = None,
        trace: bool = False,
        *,
        divergence: Divergence = "closed_form",
        latents: Latents = None,
    ) -> Inference:
        """Inference on `x`: z from the posterior, KL of each group, log p(x | z).

        Args:
            x: images [batch, channels, height, width] in [0, 1], in the dtype of the parameters.
            generator: source of the noise; the global random state if None. Several each draw once
                for all of `x`: the result has [sources * batch] rows, the first source's first.
            trace: also return q, p, z of every group, canvases and windows.
            divergence: `closed_form` KL, or `sampled` log q(z) - log p(z) at the drawn z. With
                `sampled`, log p(x | z) minus the sum over groups is a log importance weight.
            latents: `"mean"` carries posterior means through the groups. Or one entry per group:
                z [batch, *shape], `"mean"`, or None for a draw.

        Raises:
            InputError: images or latents of another type, shape or range.
        """
        self.check_images(x)
        return self(x, generator, trace, divergence=divergence, latents=latents)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        generator: Generator = None,
        trace: bool = False,
        *,
        divergence: Divergence = "closed_form",
        latents: Latents = None,
    ) -> Inference:
        """`infer` without a check of the values of `x`, for training."""
        if divergence not in get_args(Divergence):
            raise InputError(f"There is no divergence {divergence!r}; use closed_form or sampled.")
        inference = self._run(x, self._draws(x.shape[0], generator, latents), divergence, trace)
        if not self.compiled or trace or not torch.is_grad_enabled():
            return inference
        kl, log_likelihood = differentiable_once(inference.kl, inference.log_likelihood)
        return Inference(kl, log_likelihood)

    def generate(
        self,
        n: int,
        generator: Generator = None,
        trace: bool = True,
        *,
        latents: Latents = None,
        noise: Noise = None,
    ) -> Generation:
        """Generate `n` images, z from the prior.

        Args:
            trace: also return z of every group, canvases and windows.
            latents: one entry per group: z [n, *shape], `"mean"` for the prior's mean given the
                groups before, or None for a draw; or `"mean"` for all groups.
            noise: one entry per group: e [n, *shape] for z = mu_p + sigma_p e, or None for fresh
                noise. A z in `latents` takes precedence.

        Raises:
            InputError: latents or noise of a wrong number or shape.
        """
        if generator is not None and not isinstance(generator, torch.Generator):
            raise InputError("generate takes one generator; call it once for each of several.")
        return self._generate(n, self._draws(n, generator, latents, noise), trace)

    @abstractmethod
    def _infer(self, x: Tensor, draws: Draws, divergence: Divergence, trace: bool) -> Inference:
        """Inference on `x`, with z from `draws`; one pass from images to numbers."""

    @abstractmethod
    def _generate(self, n: int, draws: Draws, trace: bool) -> Generation:
        """Images from z that `draws` makes of the prior."""

    def _run(self, x: Tensor, draws: Draws, divergence: Divergence, trace: bool) -> Inference:
        """`_infer` with all noise drawn first: a function of tensors, which can be compiled."""
        infer, draws = type(self)._infer, draws.ahead(self.latent_shapes, x)
        if self.compiled and not trace:
            infer = compiled(infer, x.device.type)
        return infer(self, x, draws, divergence, trace)

    @property
    @abstractmethod
    def _output_bias(self) -> nn.Parameter:
        """The parameter that `init_from_images` sets, with as many values as a canvas."""

    def _draws(
        self, batch: int, generator: Generator, latents: Latents, noise: Noise = None
    ) -> Draws:
        """The checked source of z for each group, for `batch` images."""
        if generator is not None and not isinstance(generator, torch.Generator) and not generator:
            raise InputError("The list of generators is empty; pass None, one or several.")
        draws = Draws(generator, latents, noise)
        check_model_dtype(self._dtype)
        if latents is not None or noise is not None:
            shapes, names, rows = self.latent_shapes, self.group_names, draws.copies * batch
            dtype = self._dtype
            check_latents(latents, shapes, rows, dtype, names=names)
            check_latents(noise, shapes, rows, dtype, names=names, what="noise")
        return draws

    def check_images(self, x: object) -> None:
        """Refuse images that this model cannot score.

        If `x` requires a gradient, pixels may be grey even for a Bernoulli. Under a transform of
        torch.func the values cannot be read and are not checked.

        Raises:
            InputError: images of another type, shape or range.
        """
        self.check_form(x)
        if isinstance(x, Tensor) and not transformed():
            check_values(x, self.config.observation, grey=x.requires_grad)

    def check_form(self, x: object) -> None:
        """The part of `check_images` that reads no values.

        Raises:
            InputError: images of another type or shape.
        """
        check_form(x, self.image_shape, self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters()), torch.get_default_dtype())

    def compile_parts(self) -> None:
        """Compile the costly part of inference. Results agree with eager mode to rounding."""
        self.compiled = True

    @cached_property
    def saved_floats(self) -> SavedFloats:
        """Numbers that training keeps for the backward pass, measured by a trial pass."""
        return SavedFloats(saved_per_image(self), 0)

    def memory_mode(self, batch: int) -> Literal["store", "recompute"]:
        """Whether training on `batch` images stores all groups or recomputes them."""
        return "store"

    def stored_bytes(self, batch: int) -> int:
        """Estimate of the bytes that training on `batch` images keeps for the backward pass."""
        return self._output_bias.element_size() * batch * sum(self.saved_floats)

    def sample(
        self, n: int, generator: torch.Generator | None = None, draw: bool = False
    ) -> Float[Tensor, "n channels height width"]:
        """`n` mean images in [0, 1]; with `draw`, x ~ p(x | z)."""
        generation = self.generate(n, generator, trace=False)
        return generation.observation.sample(generator) if draw else generation.images

    @torch.no_grad()
    def init_from_images(self, images: Float[Tensor, "n channels height width"]) -> Self:
        """Set c_0 (recurrent models) or the output bias to the observation's canvas for `images`.

        The canvas holds the logit of the mean, clipped to [0.01, 0.99], and the log of the spread;
        see `initial_canvas` of `DiscretizedLogisticMixture` for the mixture.
        """
        start = self.observe.initial_canvas(images.to(self._output_bias))
        self._output_bias.copy_(start.reshape(self._output_bias.shape))
        return self

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model to a folder of its own, for `limner.load`; replaces an earlier one there.

        `model.safetensors` holds the weights, `model.json` the config.

        Raises:
            InputError: the folder holds other files or cannot be written, or weights are NaN or
                infinite.
        """
        from limner.models import saved

        saved.save(self, Path(folder))

    @property
    def is_new(self) -> bool:
        """Whether the output bias is zero, as in a new model."""
        return not self._output_bias.any()

    @property
    def num_groups(self) -> int:
        return len(self.latent_shapes)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @classmethod
    def current_names(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of this or an earlier version, under current names."""
        return {cls._current_name(name): tensor for name, tensor in state.items()}

    @classmethod
    def _current_name(cls, name: str) -> str:
        for old, new in cls.renamed.items():
            if name.startswith(old):
                return new + name.removeprefix(old)
        return name


def _rename(model: LatentVariableModel, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """A hook that runs before weights are loaded: renames those of earlier versions in place."""
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + model._current_name(name.removeprefix(prefix))] = state.pop(name)
