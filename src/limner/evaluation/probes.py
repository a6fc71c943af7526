"""How well labels can be predicted from a representation: linear and nearest neighbours.

Every representation is centred and divided by one number, the root of its mean variance. This
keeps the proportions of distances and does not amplify inactive units. The penalty of the linear
classifier is chosen by cross-validation on the training images, because a penalty that suits fifty
dimensions overfits in a thousand. Nothing is chosen on the test images.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limner.errors import InputError

NEIGHBOURS = 5
MAX_ITERATIONS = 1000
PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Candidates for the inverse strength C of the linear classifier's L2 penalty."""
FOLDS = 3
Z_95 = 1.959963984540054


class Labelled(NamedTuple):
    """Vectors of images, and their labels."""

    vectors: NDArray[np.floating]
    """[images, dims]"""
    labels: NDArray[np.integer]
    """[images]"""


class Accuracy(NamedTuple):
    """The share of test images that were labelled correctly, with its 95 % interval."""

    value: float
    low: float
    high: float


class Probe(NamedTuple):
    """The accuracies from one representation."""

    dims: int
    linear: Accuracy
    neighbours: Accuracy


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927): never empty, never outside [0, 1].

    (p + z^2/2n -+ z sqrt(p (1 - p) / n + z^2/4n^2)) / (1 + z^2/n), p = correct / total.
    """
    share, square = correct / total, Z_95**2 / total
    middle = (share + square / 2) / (1 + square)
    half = Z_95 * math.sqrt(share * (1 - share) / total + square / (4 * total)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def probe_representation(train: Labelled, test: Labelled) -> Probe:
    """Accuracies on `test` of multinomial logistic regression and k-NN fitted on `train`.

    The penalty of the logistic regression is the best of `PENALTIES` in `FOLDS`-fold
    cross-validation on `train`. k-NN uses five neighbours.

    Raises:
        InputError: fewer than two classes, fewer images than neighbours, or fewer images of a class
            than folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KNeighborsClassifier

    _, counts = np.unique(train.labels, return_counts=True)
    if len(counts) < 2 or len(train.labels) < NEIGHBOURS or min(counts) < FOLDS:
        raise InputError(
            f"A probe needs at least {NEIGHBOURS} training images, two classes, and {FOLDS} "
            "images of every class; use more images."
        )
    train, test = _scaled(train, test)
    regression = LogisticRegression(max_iter=MAX_ITERATIONS)
    classifiers = (
        GridSearchCV(regression, {"C": PENALTIES}, cv=FOLDS),
        KNeighborsClassifier(NEIGHBOURS),
    )
    linear, neighbours = (
        _accuracy(classifier.fit(*train).predict(test.vectors), test.labels)
        for classifier in classifiers
    )
    return Probe(train.vectors.shape[1], linear, neighbours)


def principal_components(train: Labelled, test: Labelled, dims: int) -> tuple[Labelled, Labelled]:
    """Both projected onto the first `dims` principal components of `train`, if it has as many."""
    from sklearn.decomposition import PCA

    pca = PCA(min(dims, *train.vectors.shape), random_state=0).fit(train.vectors)
    return (
        train._replace(vectors=pca.transform(train.vectors)),
        test._replace(vectors=pca.transform(test.vectors)),
    )


def _scaled(train: Labelled, test: Labelled) -> tuple[Labelled, Labelled]:
    center = train.vectors.mean(0)
    scale = math.sqrt(train.vectors.var(0).mean()) or 1.0
    return (
        train._replace(vectors=(train.vectors - center) / scale),
        test._replace(vectors=(test.vectors - center) / scale),
    )


def _accuracy(predicted: NDArray[np.integer], labels: NDArray[np.integer]) -> Accuracy:
    correct = int((predicted == labels).sum())
    return Accuracy(correct / len(labels), *wilson_interval(correct, len(labels)))
