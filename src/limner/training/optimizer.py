"""The optimizer, its schedules, and steps that are skipped because of their gradient."""

import math
from collections.abc import Callable, Iterable
from inspect import Parameter, signature

import torch
from torch import Tensor, nn

from limner.config import OptimizerConfig, RunConfig
from limner.device import is_tried
from limner.errors import InputError

MAX_STREAK = 50
"""Steps in a row without a finite gradient that stop the run."""
SPIKE, MEMORY = 100.0, 20
"""A step is skipped if its gradient would be clipped and has `SPIKE` times the usual norm: the
geometric mean of earlier norms, with weights that fall over `MEMORY` steps, so that a norm that
stays large becomes usual."""
TINY = 1e-30
"""Moments below this are set to zero on a CPU, far above 1e-38, where denormal numbers begin.

A unit that became inactive has a gradient of zero, so its moments decay until they are denormal,
which is slow on many processors (cpu/README.md)."""
CLEAR_EVERY = 128
"""Steps between two searches for such moments."""


OwnOptimizer = torch.optim.Optimizer | Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def own_optimizer(given: OwnOptimizer, model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer of the user's, or the one that their function makes of the parameters.

    Raises:
        InputError: it is no optimizer, has other parameters than the model's, or needs a closure.
    """
    optimizer: object = given
    if not isinstance(given, torch.optim.Optimizer) and callable(given):
        optimizer = given(model.parameters())
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            "optimizer must be a torch optimizer, or a function that makes one of the model's "
            f"parameters; got {optimizer!r:.80}."
        )
    known = {id(parameter) for parameter in model.parameters()}
    if any(id(p) not in known for group in optimizer.param_groups for p in group["params"]):
        raise InputError(
            "The optimizer has parameters that are not the model's; make it of this model's "
            "parameters, on the device of the model."
        )
    closure = signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is Parameter.empty:
        raise InputError(
            f"{type(optimizer).__name__} needs a closure, which Limner's training does not have; "
            "choose another optimizer."
        )
    return optimizer


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam or AdamW, fused on a CPU and on CUDA; on CUDA with its rate there, for a CUDA graph."""
    device = next(model.parameters()).device
    cuda, rate = device.type == "cuda", config.learning_rate
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(
        model.parameters(),
        lr=torch.tensor(rate, device=device) if cuda else rate,
        betas=config.betas,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        fused=is_tried(device),
        capturable=cuda,
    )


class GuardedStep:
    """Clip the gradient, then step, unless the gradient is not finite or its norm is a spike.

    A fused optimizer decides on the device, by its own `found_inf`; for another one (fused Adam
    ignores `found_inf` on mps) the norm is read from the device. A skipped step does not change the
    optimizer's state. On the device are kept: `skipped`, the number of such steps; `streak`, those
    in a row without a finite gradient; `usual`, the log of the usual norm, infinite at first.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, clip_norm: float, device: torch.device):
        self.optimizer, self.clip_norm = optimizer, clip_norm
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        supported = getattr(optimizer, "_step_supports_amp_scaling", False)
        self.fused = supported and is_tried(device)
        self.skipped = torch.zeros((), device=device)
        self.streak = torch.zeros((), device=device)
        self.usual = torch.full((), math.inf, device=device)

    def __call__(self, learning_rate: float | Tensor | None) -> Tensor:
        """Take the step; returns the gradient's norm before clipping.

        A learning rate of None leaves the rates of the optimizer as they are.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = self._norm(gradients)
        infinite = (~norm.isfinite()).float()
        unusable = infinite.maximum(self._is_spike(norm))
        self.skipped += unusable
        self.streak.add_(1).mul_(infinite)
        for group in self.optimizer.param_groups if learning_rate is not None else ():
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(learning_rate)  # type: ignore[arg-type]
            else:
                group["lr"] = learning_rate
        scale = (norm / self.clip_norm).clamp(min=1.0).float()
        if self.fused:
            self.optimizer.found_inf = unusable  # type: ignore[attr-defined]
            self.optimizer.grad_scale = scale  # type: ignore[attr-defined]
            self.optimizer.step()
            for name in ("found_inf", "grad_scale"):  # not for steps of the user's own
                delattr(self.optimizer, name)
        elif not unusable:
            for gradient in gradients:
                gradient.div_(scale)
            self.optimizer.step()
        return norm

    def _is_spike(self, norm: Tensor) -> Tensor:
        """1 if a norm is far above the usual one, which it then changes, else 0."""
        log_norm = norm.clamp_min(TINY).log().float()
        usual = torch.where(self.usual.isinf(), log_norm, self.usual)
        changed = usual + (log_norm - usual).clamp_min(-1.0) / MEMORY
        self.usual.copy_(torch.where(norm.isfinite(), changed, self.usual))
        return ((norm > self.clip_norm) & (log_norm > usual + math.log(SPIKE))).float()

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        """The norm; on a CPU, where reading it is free, also if its square overflows."""
        norm = nn.utils.get_total_norm(gradients)
        if norm.is_cpu and not norm.isfinite():
            largest = nn.utils.get_total_norm(gradients, torch.inf)
            if largest.isfinite():
                return largest * nn.utils.get_total_norm([g / largest for g in gradients])
        return norm

    def counts(self) -> dict[str, Tensor]:
        """What a checkpoint keeps besides the optimizer."""
        return {"skipped": self.skipped, "streak": self.streak, "usual": self.usual}

    def clear_tiny(self) -> None:
        """Set tiny moments to zero; due every `CLEAR_EVERY` steps on a CPU."""
        for state in self.optimizer.state.values():
            for name in {"exp_avg", "exp_avg_sq"} & state.keys():
                torch.hardshrink(state[name], TINY, out=state[name])

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


def kl_weight(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """The weight of the KL after `step` steps: linear warm-up, then beta.

    A model's own warm-up is quadratic: the weight is small while the decoder learns to use z.
    """
    wanted = config.objective.kl_warmup_epochs * steps_per_epoch
    own = 0 if config.start_from else config.model.kl_warmup_steps
    linear, quadratic = (min(1.0, step / steps) if steps else 1.0 for steps in (wanted, own))
    return config.objective.beta * linear * quadratic**2
