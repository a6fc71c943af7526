"""Signs that a training went wrong, found at its end."""

import math
from collections.abc import Iterator

from limner.data import Dataset, pixel_kind
from limner.training.runs import Run


def remarks(run: Run, dataset: Dataset) -> Iterator[str]:
    """A sentence for each sign in the metrics of a finished training.

    A bound is absurd if it is more than one bit per pixel worse than `uniform_bound` after the
    warm-up of the learning rate. A model that learned anything is above `uniform_bound`, and one
    that learned nothing from noise is near it.
    """
    last = (run.metrics() or [None])[-1]
    if last is None:
        return
    skipped, step, bound = last["skipped_steps"], last["step"], last["validation"]["elbo"]
    advice = "train again with a lower --optimizer.learning-rate"
    if skipped:
        yield (
            f"{skipped:,} of {step:,} steps ({skipped / step:.1%}) were skipped, because their "
            f"gradient was not finite; {advice}."
        )
    guess = uniform_bound(dataset, run.config.model.observation)
    if bound is None:
        yield f"The last validation bound is not finite: training diverged; {advice}."
    elif step <= run.config.optimizer.warmup_steps:
        return
    elif bound < guess - math.log(2) * math.prod(dataset.image_shape):
        yield (
            f"The last validation bound, {bound:,.4g} nats per image, is far worse than "
            f"the {guess:,.4g} of random guessing: training diverged; {advice}."
        )


def uniform_bound(dataset: Dataset, observation: str) -> float:
    """log p(x) in nats per image if all values of every pixel are equally likely.

    A binary pixel has 2 values and an 8-bit pixel 256; a uniform density on [0, 1] is 1.
    """
    nats = {"binary": math.log(2), "levels": math.log(256), "dequantized": 0.0}
    return -nats[pixel_kind(dataset, observation)] * math.prod(dataset.image_shape)
