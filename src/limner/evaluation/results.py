"""The content of `results.json`."""

import platform
from collections.abc import Mapping
from typing import Any

import torch

import limner
from limner.evaluation.evaluation import Evaluation


def results_of(evaluation: Evaluation, about: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `results.json`: the numbers, then `about` and what else describes them.

    Signs are as in the code: for `elbo`, `iw_bound` and `reconstruction` (mean log p(x | z)) higher
    is better, and `kl` is positive. For bits per dimension lower is better.
    """
    model = evaluation.measured
    return evaluation.figures() | {
        **about,
        "observation": model.observation,
        "image_shape": list(model.image_shape),
        "num_images": evaluation.num_images,
        "images": evaluation.images,
        "seed": evaluation.seed,
        "parameters": model.parameters,
        "evaluation_seconds": round(evaluation.seconds, 3),
        "device": model.device,
        "versions": {
            "limner": limner.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
