"""Signs that a training went wrong, found at its end."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from limner.config import RunConfig
from limner.data import Dataset, pixel_kind

COLLAPSED = 0.02
"""A KL, in nats per image, below which the model is one distribution for all images."""


def remarks(
    config: RunConfig, records: Sequence[Mapping[str, Any]], dataset: Dataset
) -> Iterator[str]:
    """A sentence for each sign in the records of a finished training.

    An ELBO of training is absurd if it is more than one bit per pixel worse than `uniform_bound`
    after the warm-up of the learning rate. A model that learned anything is above `uniform_bound`,
    and one that learned nothing from noise is near it. If only the ELBO of validation is that bad,
    or far below its best, the model has memorised its training images.
    """
    if not records:
        return
    last, warmup = records[-1], config.optimizer.warmup_steps
    skipped, step = last["skipped_steps"], last["step"]
    bound, trained = last["validation"]["elbo"], last["train"]["elbo"]
    kl = last["validation"]["kl"]
    advice = "train again with a lower --optimizer.learning-rate"
    if skipped:
        few = skipped < step / 100
        yield (
            f"{skipped:,} of {step:,} steps ({skipped / step:.1%}) were skipped, because their "
            "gradient was not finite or far above the usual one; "
            + ("so few do no harm." if few else f"{advice}.")
        )
    guess = uniform_bound(dataset, config.model.observation)
    bit = math.log(2) * math.prod(dataset.image_shape)
    if bound is None:
        yield f"The last validation -ELBO is not finite: training diverged; {advice}."
    elif step <= warmup:
        if config.minutes is not None:
            yield (
                f"All {step:,} steps were within the {warmup:,} of warm-up "
                "(--optimizer.warmup-steps); train longer, or with a shorter warm-up."
            )
    elif trained is not None and trained < guess - bit:
        yield (
            f"The last training -ELBO, {-trained:,.4g} nats per image, is far worse than the "
            f"{-guess:,.4g} of random guessing: training diverged; {advice}."
        )
    elif kl is not None and kl < COLLAPSED:
        yield (
            f"The KL is {kl:.2f} nats, so the latent variables say nothing of an image (posterior "
            "collapse); train longer, or with --objective.kl-warmup-epochs 5."
        )
    else:
        yield from _memorised(records, bit, dataset)


def _memorised(records: Sequence[Mapping[str, Any]], bit: float, dataset: Dataset) -> Iterator[str]:
    """That the ELBO of validation fell by more than a tenth of a bit per pixel from its best."""
    known = [record for record in records if record["validation"]["elbo"] is not None]
    best, last = max(known, key=lambda record: record["validation"]["elbo"]), records[-1]
    fall = best["validation"]["elbo"] - last["validation"]["elbo"]
    if fall > bit / 10:
        yield (
            f"Validation was best at epoch {best['epoch']:g} of {last['epoch']:g}, "
            f"-ELBO {-best['validation']['elbo']:,.4g} nats per image, and is {fall:,.3g} higher "
            f"at the end: from then on the model memorised its {len(dataset.train):,} training "
            "images. The weights of that epoch are used; more images or --data.augment.* help."
        )


def uniform_bound(dataset: Dataset, observation: str) -> float:
    """log p(x) in nats per image if all values of every pixel are equally likely.

    A binary pixel has 2 values and an 8-bit pixel 256; a uniform density on [0, 1] is 1.
    """
    nats = {"binary": math.log(2), "levels": math.log(256), "dequantized": 0.0}
    return -nats[pixel_kind(dataset, observation)] * math.prod(dataset.image_shape)
