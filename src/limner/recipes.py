"""Named presets: the papers' recipes and the study's, each reproduced by one command.

`limner train --recipe NAME --data.root DIR`; flags change what a recipe says. The papers' recipes
train on MNIST, 50,000 / 10,000 / 10,000, redrawn every epoch; for the static kind add
`--data.binarization static`.
"""

from limner.config import ObjectiveConfig, OptimizerConfig, RunConfig
from limner.data import DataConfig
from limner.errors import InputError
from limner.models import DRAWConfig, LadderVAEConfig, VAEConfig

MNIST = DataConfig(name="mnist")

STUDY: dict[str, RunConfig] = {
    name: RunConfig(model=model, optimizer=OptimizerConfig(warmup_steps=100), epochs=40)
    for name, model in {
        "VAE": VAEConfig(),
        "Ladder VAE": LadderVAEConfig(),
        "DRAW": DRAWConfig(num_steps=10, latent_dim=50),
        "DRAW with attention": DRAWConfig(
            num_steps=16, attention="filterbank", read_size=5, write_size=5, latent_dim=50
        ),
    }.items()
}
"""What `limner compare` trains when it is given no runs: one recipe and one budget for all four."""

RECIPES: dict[str, RunConfig] = {
    # Burda et al. (2016), one stochastic layer, k = 1: 86.76 (L_5000). Theirs: batch 20, 3,280
    # epochs at falling rates; here one cosine.
    "iwae-vae": RunConfig(
        model=VAEConfig(hidden_dims=(200, 200), latent_dim=50, activation="tanh"),
        data=MNIST,
        optimizer=OptimizerConfig(learning_rate=1e-3, epsilon=1e-4),
        batch_size=100,
        epochs=1000,
        validate_every=10,
    ),
    # Sonderby et al. (2016), five layers: 81.84 (L_5000).
    "ladder-vae": RunConfig(
        model=LadderVAEConfig(),
        data=MNIST,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        objective=ObjectiveConfig(kl_warmup_epochs=200),
        batch_size=256,
        epochs=2000,
        validate_every=10,
    ),
    # Gregor et al. (2015) without attention: 87.40 (ELBO, static). Optimizer not in the paper.
    "draw": RunConfig(
        model=DRAWConfig(num_steps=10, latent_dim=100), data=MNIST, batch_size=128, epochs=100
    ),
    # Gregor et al. (2015), MNIST: 80.97 (ELBO, static). Optimizer not in the paper.
    "draw-attention": RunConfig(
        model=DRAWConfig(num_steps=64, attention="filterbank", read_size=2, write_size=5),
        data=MNIST,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        batch_size=128,
        epochs=100,
    ),
    # The shortest DRAWs that learn MNIST within minutes on two cores.
    "quick-draw": STUDY["DRAW"].with_(data=MNIST, epochs=3),
    "quick-draw-attention": STUDY["DRAW with attention"].with_(data=MNIST, epochs=3),
    # A well-known comparison of four models at one latent budget.
    "comparison-vae": RunConfig(
        model=VAEConfig(hidden_dims=(512, 256, 128, 64), latent_dim=64), data=MNIST, epochs=50
    ),
    "comparison-ladder-vae": RunConfig(
        model=LadderVAEConfig(hidden_dims=(512, 256, 256), latent_dims=(64, 32, 32)),
        data=MNIST,
        epochs=50,
    ),
    "comparison-draw": RunConfig(
        model=DRAWConfig(num_steps=10, latent_dim=32), data=MNIST, epochs=50
    ),
    "comparison-draw-attention": RunConfig(
        model=DRAWConfig(
            num_steps=10, attention="filterbank", read_size=12, write_size=12, latent_dim=32
        ),
        data=MNIST,
        epochs=50,
    ),
}


def recipe(name: str) -> RunConfig:
    """A preset by its name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in RECIPES:
        raise InputError(f"There is no recipe {name!r}; choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]
