"""What to measure, and where."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from limner.data import DataConfig
from limner.models import DRAWConfig, LadderVAEConfig, ModelConfig, VAEConfig

LONG = "DRAW with attention (T = 64)"
RECIPES: dict[str, ModelConfig] = {
    LONG: DRAWConfig(num_steps=64, attention="filterbank"),
    "VAE": VAEConfig(),
    "DRAW (T = 10)": DRAWConfig(num_steps=10),
    "DRAW with attention (T = 16)": DRAWConfig(
        num_steps=16,
        attention="filterbank",
        read_size=5,
        write_size=5,
        latent_dim=50,
        prior="learned",
    ),
    "Ladder VAE": LadderVAEConfig(),
}


@dataclass
class Options:
    """What to measure, and where."""

    out: tyro.conf.Positional[Path]
    data: DataConfig
    device: str = "cuda"
    tiny: bool = False
    """few steps of small models"""
    batch: int = 128
    only: str = ""
    """only parts whose names start with this"""
    minutes: float = 9.0
    """The whole takes at most this long."""
    measure: bool = False
    """only measure, in this process, until `minutes` are over; do not repeat what gpu.json holds"""

    def recipes(self) -> dict[str, ModelConfig]:
        """The models to measure."""
        return {name: self.small(model) for name, model in RECIPES.items()}

    def small(self, model: ModelConfig) -> ModelConfig:
        """`model`, with three steps if `tiny`."""
        if self.tiny and isinstance(model, DRAWConfig):
            return model.with_(num_steps=3, hidden_dim=16)
        return model

    def depths(self) -> tuple[int, ...]:
        """Steps T at which memory is measured."""
        return (4, 9) if self.tiny else (64, 256, 1024)
