"""The state of a training as named tensors and a document, and back."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def pack(modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Named tensors of all modules and of the optimizer."""
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    for name, state in _optimizer_states(optimizer):
        tensors |= {f"optimizer.{name}.{key}": value for key, value in state.items()}
    return tensors


def unpack(
    tensors: dict[str, Tensor], modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    """Put the tensors of `pack` back where they came from."""
    for prefix, module in modules.items():
        module.load_state_dict(
            {
                name.removeprefix(f"{prefix}."): tensor
                for name, tensor in tensors.items()
                if name.startswith(f"{prefix}.")
            }
        )
    for index, parameter in enumerate(_parameters(optimizer)):
        prefix = f"optimizer.{index}."
        state = {
            name.removeprefix(prefix): tensor.to(parameter.device)
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        moments = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        if state and {key: value.shape for key, value in state.items()} != moments:
            raise ValueError(f"no state of Adam for parameter {index}")
        optimizer.state[parameter] = state


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer_states(optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, dict]]:
    for index, parameter in enumerate(_parameters(optimizer)):
        yield index, optimizer.state[parameter]
