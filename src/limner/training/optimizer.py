"""The optimizer, its schedules, and steps that skip themselves."""

import math

import torch
from torch import Tensor, nn

from limner.config import OptimizerConfig, RunConfig

MAX_STREAK = 50
"""So many steps in a row without a finite gradient stop the run."""


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Adam:
    """Adam or AdamW in its fused form."""
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(
        model.parameters(),
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        fused=True,
    )


class GuardedStep:
    """Clip the gradient, then step, unless the gradient is not finite.

    The decision is made on the device, by the optimizer's own `found_inf`: the moments and the step
    count of a skipped step do not move either. `skipped` counts such steps and `streak` those in a
    row, both as tensors on the device.
    """

    def __init__(self, optimizer: torch.optim.Adam, clip_norm: float, device: torch.device):
        self.optimizer, self.clip_norm = optimizer, clip_norm
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.skipped = torch.zeros((), device=device)
        self.streak = torch.zeros((), device=device)

    def __call__(self, learning_rate: float) -> Tensor:
        """Take the step; returns the gradient's norm before clipping."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        unusable = (~norm.isfinite()).float()
        self.skipped += unusable
        self.streak = (self.streak + 1) * unusable
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.found_inf = unusable  # type: ignore[attr-defined]
        scale = (norm / self.clip_norm).clamp(min=1.0).float()
        self.optimizer.grad_scale = scale  # type: ignore[attr-defined]
        self.optimizer.step()
        return norm

    def stuck(self) -> bool:
        """Whether `MAX_STREAK` steps in a row were skipped."""
        return bool(self.streak >= MAX_STREAK)


def learning_rate(config: OptimizerConfig, step: int, progress: float) -> float:
    """The rate of `step`, counted from 0: linear warm-up, then cosine to zero or constant.

    `progress` is the share of the budget that is spent, 0 to 1.
    """
    rate = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.schedule == "constant":
        return rate
    return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def kl_weight(config: RunConfig, epochs: float) -> float:
    """The weight of the KL after `epochs` (a fraction counts): linear warm-up, then beta."""
    warmup = config.objective.kl_warmup_epochs
    return config.objective.beta * (min(1.0, epochs / warmup) if warmup else 1.0)
