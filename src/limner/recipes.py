"""Named presets: the papers' recipes and the study's, each one command."""

from limner.config import RunConfig
from limner.errors import InputError
from limner.models import DRAWConfig, LadderVAEConfig, VAEConfig

STUDY: dict[str, RunConfig] = {
    "VAE": RunConfig(model=VAEConfig(), epochs=40),
    "Ladder VAE": RunConfig(model=LadderVAEConfig(), epochs=40),
    "DRAW": RunConfig(model=DRAWConfig(num_steps=10, latent_dim=50), epochs=40),
    "DRAW with attention": RunConfig(
        model=DRAWConfig(
            num_steps=16, attention="filterbank", read_size=5, write_size=5, latent_dim=50
        ),
        epochs=40,
    ),
}
"""What `limner compare` trains when it is given no runs: one budget for all four."""

RECIPES: dict[str, RunConfig] = {
    "vae": RunConfig(model=VAEConfig(), epochs=40),
}


def recipe(name: str) -> RunConfig:
    """A preset by its name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in RECIPES:
        raise InputError(f"There is no recipe {name!r}; choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]
