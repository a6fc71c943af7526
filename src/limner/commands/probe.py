"""`limner probe`: how well representations predict labels, beside raw pixels and PCA."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from limner.commands.options import FLAT, SUBJECT, RunName, Subject, shown_images
from limner.commands.pictures import progress
from limner.errors import InputError
from limner.progress import Report, progress_bar, suggest

if TYPE_CHECKING:
    from rich.table import Table

    from limner.data import Dataset, Split
    from limner.evaluation.probes import Accuracy, Labelled, Probe
    from limner.models import LatentVariableModel


def probe(
    run: RunName,
    /,
    subject: Annotated[Subject, FLAT] = SUBJECT,
    *,
    groups: tuple[int, ...] = (),
    features: bool = False,
    num_train: int = 10_000,
    num_test: int | None = None,
) -> None:
    """Predict labels from posterior means, with a linear classifier and nearest neighbours.

    For comparison, the same from raw pixels (as the model sees them) and from as many principal
    components of the pixels. Prints accuracies with 95 % intervals and writes RUN/probe.json.

    Args:
        groups: numbers of the latent groups to use, from 1; all if not given
        features: use the decoder's final state instead of latent groups
        num_train: number of training images, chosen at random
        num_test: number of test images, chosen at random; all if not given
    """
    from rich.console import Console

    from limner.evaluation.representations import check_groups
    from limner.storage import write_atomically

    opened = subject.data.open(run)
    model = subject.load(opened)
    check_groups(model, groups, features)
    dataset = shown_images(opened)
    train = _pixels(dataset, "train", num_train, opened.config.model.observation)
    test = _pixels(dataset, "test", num_test, opened.config.model.observation)
    count = len(train.labels) + len(test.labels)
    with progress_bar(f"encoding {opened.name}", count, about=f"of {dataset.name}") as report:
        encoded = _encoded(model, train, test, groups, features, report)
    fitted = _probes(train, test, encoded)
    probes = dict(progress(fitted, "fitting classifiers", 3, "representations"))
    document = {
        "dataset": dataset.name,
        "num_train": len(train.labels),
        "num_test": len(test.labels),
        "groups": list(groups) or "all",
        "features": features,
        "probes": {name: _plain(found) for name, found in probes.items()},
    }
    write_atomically(opened.place("probe.json"), json.dumps(document, indent=2) + "\n")
    title = (
        f"{opened.name}: labels of {len(test.labels):,} test images of {dataset.name}, learned "
        f"from {len(train.labels):,}; 95 % intervals"
    )
    Console().print(_table(probes, title))
    suggest("figures", run)


def _pixels(dataset: "Dataset", split: "Split", count: int | None, observation: str) -> "Labelled":
    """`count` images of a split, always the same, as vectors of pixels with labels.

    They are chosen at random, because the images of a folder are sorted by class.
    """
    import numpy as np

    from limner.data import frozen
    from limner.evaluation.probes import Labelled

    labels = dataset.split(split).labels
    if labels is None:
        raise InputError(
            f"{dataset.name} has no labels; a probe needs them, for example from subfolders with "
            "the names of the classes."
        )
    if count is not None and count < 1:
        raise InputError(f"A probe needs at least one {split} image; got {count}.")
    chosen = np.random.RandomState(0).permutation(len(labels))[:count]
    x = frozen(dataset, split, observation)
    return Labelled(x.flatten(1).numpy()[chosen], labels.numpy()[chosen])


def _encoded(
    model: "LatentVariableModel",
    train: "Labelled",
    test: "Labelled",
    groups: tuple[int, ...],
    features: bool,
    report: Report,
) -> "tuple[Labelled, Labelled]":
    """The same images with posterior means as vectors."""
    import numpy as np
    import torch

    from limner.evaluation.representations import encode_images

    pixels = torch.from_numpy(np.concatenate([train.vectors, test.vectors]))
    x = pixels.unflatten(1, model.image_shape)
    means = encode_images(model, x, groups, features, report).numpy()
    first, second = means[: len(train.labels)], means[len(train.labels) :]
    return train._replace(vectors=first), test._replace(vectors=second)


def _probes(
    train: "Labelled", test: "Labelled", encoded: "tuple[Labelled, Labelled]"
) -> "Iterator[tuple[str, Probe]]":
    from limner.evaluation.probes import principal_components, probe_representation

    yield "posterior means", probe_representation(*encoded)
    dims = encoded[0].vectors.shape[1]
    yield "PCA of pixels", probe_representation(*principal_components(train, test, dims))
    yield "raw pixels", probe_representation(train, test)


def _plain(found: "Probe") -> dict[str, object]:
    return {
        "dims": found.dims,
        "linear": found.linear._asdict(),
        "neighbours": found.neighbours._asdict(),
    }


def _table(probes: "dict[str, Probe]", title: str) -> "Table":
    from rich.table import Table

    table = Table("accuracy, %", title=title, title_justify="left")
    for heading in ("dims", "linear classifier", "nearest neighbours"):
        table.add_column(heading, justify="right")
    for name, found in probes.items():
        table.add_row(name, str(found.dims), _shown(found.linear), _shown(found.neighbours))
    return table


def _shown(accuracy: "Accuracy") -> str:
    value, low, high = (100 * share for share in accuracy)
    return f"{value:.1f} ({low:.1f} to {high:.1f})"
