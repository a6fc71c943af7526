"""The inputs of the figures of a trained model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from limner.data import Dataset, Frozen
from limner.figures.maps import Projection
from limner.layers.attention import Window, Windows
from limner.models import LatentVariableModel

BATCH = 250


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained model, its images and the metrics of its training."""

    model: LatentVariableModel
    dataset: Dataset
    metrics: Sequence[Mapping[str, Any]] = ()
    seed: int = 0
    max_images: int | None = None
    """Number of test images that statistics use; None means all."""
    projection: Projection = "pca"

    def generator(self) -> torch.Generator:
        """A new generator seeded with `seed`, so that figures do not depend on each other.

        It is one of the CPU, so that they do not depend on the device either.
        """
        return torch.Generator().manual_seed(self.seed)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def x(self) -> Tensor:
        """Test images as the model sees them, [n, C, H, W]."""
        x = Frozen(self.dataset, "test", self.model.config.observation)
        return x[: self.max_images].to(self.device)

    @cached_property
    @torch.no_grad()
    def _trace(self) -> tuple[Tensor, Windows | None]:
        """Posterior means [n, all latents] and windows [steps, n] of `x`."""
        means, windows = [], []
        for batch in self.x.split(BATCH):
            traced = self.model.infer(batch, trace=True, latents="mean")
            assert traced.latents is not None
            means.append(torch.cat([each.q.loc.flatten(1) for each in traced.latents], dim=1))
            windows.append(traced.windows)
        return torch.cat(means), _joined(windows)

    @property
    def means(self) -> Tensor:
        return self._trace[0]

    @property
    def windows(self) -> Windows | None:
        return self._trace[1]


def _joined(parts: Sequence[Windows | None]) -> Windows | None:
    """Windows of several batches, concatenated."""
    known = [part for part in parts if part is not None]
    if not known:
        return None

    def join(windows: Sequence[Window]) -> Window:
        return Window(*(torch.cat(fields, dim=1) for fields in zip(*windows, strict=True)))

    read = [part.read for part in known if part.read is not None]
    return Windows(join(read) if read else None, join([part.write for part in known]))
