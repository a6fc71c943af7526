"""Two-dimensional maps of representations, coloured by label."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from limner.figures import style
from limner.figures.names import Projection

COLOURS = (
    "#2f6fb0", "#d1495b", "#238b45", "#a8770a", "#1d93a6", "#9c3587", "#6e7781", "#7a57d1",
    "#c0561b", "#5b8c00", "#b0306a", "#4a5aa8",
)  # fmt: skip
"""For up to 12 classes; each is legible on white and on black."""
SHAPES = "osDv^<>pPX*h"
MAX_NAMED = len(COLOURS)
"""Up to this many classes get a marker and a legend entry; more differ in colour alone."""


class Map(NamedTuple):
    """Points [n, 2] and the names of the two axes."""

    points: np.ndarray
    axes: tuple[str, str]


def project(features: np.ndarray, projection: Projection = "pca", seed: int = 0) -> Map:
    """Representations [n, d] as points in two dimensions.

    `pca`: the two directions of largest variance, with their share of it. `tsne`: van der Maaten
    and Hinton (2008), started from PCA; distances between separate clusters have no meaning there.
    """
    centered = features - features.mean(0)
    if projection == "tsne" and len(features) > 5:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits

        perplexity = min(30.0, (len(features) - 1) / 3)
        embed = TSNE(perplexity=perplexity, init="pca", random_state=seed)
        # On a busy machine several threads wait for each other and are ten times slower than one.
        with threadpool_limits(1):
            return Map(embed.fit_transform(centered), ("t-SNE 1", "t-SNE 2"))
    u, s, _ = np.linalg.svd(centered, full_matrices=False)
    share = s**2 / max((s**2).sum(), 1e-12)
    points = np.zeros((len(features), 2))
    points[:, : s.size] = (u * s)[:, :2]
    share = np.append(share, 0.0)[:2]
    return Map(points, (f"first component, {share[0]:.0%}", f"second component, {share[1]:.0%}"))


@style.styled
def representation_map(
    mapped: Map, labels: np.ndarray | None, class_names: Sequence[str] | None = None
) -> Figure:
    """A scatter of images' representations; classes differ in colour and, if few, in marker."""
    made = style.figure(5.2, 4.2)
    axes = made.subplots()
    axes.grid(False)
    axes.set(xlabel=mapped.axes[0], ylabel=mapped.axes[1], xticks=[], yticks=[])
    x, y = mapped.points.T
    if labels is None:
        axes.plot(x, y, ".", color=style.MUTED, markersize=3)
        return made
    classes = np.unique(labels)
    few = len(classes) <= MAX_NAMED
    colours = COLOURS if few else mpl.colormaps["turbo"](np.linspace(0.04, 0.96, len(classes)))
    names = class_names or [str(k) for k in range(int(classes.max()) + 1)]
    marks = [_mark(names[int(label)], k) for k, label in enumerate(classes)]
    for k, (label, colour) in enumerate(zip(classes, colours, strict=False)):
        name, chosen = names[int(label)], labels == label
        axes.plot(
            x[chosen], y[chosen], linestyle="", marker=marks[k] if few else ".", label=name,
            color=colour, markersize=5 if few else 3, markeredgewidth=0.2,
        )  # fmt: skip
    if few and not all(mark.startswith("$") for mark in marks):
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return made


def _mark(name: str, index: int) -> str:
    """A class's own letter or digit, or a shape."""
    return f"${name}$" if len(name) == 1 and name.isalnum() else SHAPES[index % len(SHAPES)]
