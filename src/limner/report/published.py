"""Published results to compare with, each with its binarization, bound and source.

Negative bounds in nats per image, lower is better. Only numbers with the same binarization and the
same kind of bound are comparable: on MNIST, static binarization costs about two nats more than
dynamic, and an ELBO is two to four nats worse than an importance-weighted bound.
"""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from limner.data import Dataset
from limner.report.wording import number, with_error
from limner.training.runs import Run


class Published(NamedTuple):
    """One published result."""

    dataset: str
    model: str
    nats: str
    """-log p(x) or its bound, as printed; with "<" if the authors give it so."""
    bound: str
    """-ELBO, or -L_K: the importance-weighted bound with K samples."""
    binarization: str
    source: str

    @property
    def cited(self) -> Markup:
        """The source, with a link to the paper."""
        authors, _, number = self.source.partition("arXiv:")
        return Markup("{}{}").format(authors, _arxiv(number)) if number else Markup.escape(authors)


_DRAW = "Gregor et al. 2015, arXiv:1502.04623"
_CONVDRAW = "Gregor et al. 2016, arXiv:1604.08772"
_IWAE = "Burda et al. 2016, arXiv:1509.00519"
_LADDER = "Sønderby et al. 2016, arXiv:1602.02282"
_BIVA = "Maaløe et al. 2019, arXiv:1902.02102"
_NVAE = "Vahdat and Kautz 2020, arXiv:2007.03898"
_L_1000, _L_5000 = (f"-L_{samples}" for samples in (1000, 5000))

PUBLISHED = (
    Published("mnist", "DRAW without attention", "87.40", "-ELBO", "static", _DRAW),
    Published("mnist", "DRAW, filterbank attention, T = 64", "80.97", "-ELBO", "static", _DRAW),
    Published("mnist", "VAE, one layer, 200-200-z50", "88.71", _L_5000, "static", _IWAE),
    Published("mnist", "VAE, one layer, 200-200-z50", "86.76", _L_5000, "dynamic", _IWAE),
    Published("mnist", "IWAE, two layers, k = 50", "82.90", _L_5000, "dynamic", _IWAE),
    Published("mnist", "Ladder VAE, five layers", "81.84", _L_5000, "dynamic", _LADDER),
    Published("mnist", "BIVA", "80.60", "-ELBO", "dynamic", _BIVA),
    Published("mnist", "BIVA", "78.41", _L_1000, "dynamic", _BIVA),
    Published("mnist", "NVAE", "78.01", _L_1000, "dynamic", _NVAE),
    Published("omniglot", "DRAW", "96.50", "-ELBO", "not stated", _CONVDRAW),
    Published("omniglot", "ConvDRAW", "< 91.00", "-ELBO", "not stated", _CONVDRAW),
    Published("omniglot", "Ladder VAE, five layers", "102.11", _L_5000, "dynamic", _LADDER),
)

PAPERS = {
    "vae": "1312.6114",
    "ladder-vae": "1602.02282",
    "draw": "1502.04623",
    "conv-draw": "1604.08772",
}
"""The paper on arXiv of each kind of model."""

SAME_IMAGES = {"mnist-5k": "mnist", "static-mnist": "mnist"}
"""Datasets with images of the same kind as a published one, though maybe fewer."""


def published_for(dataset: str) -> list[Published]:
    """Published results on images like those of `dataset`."""
    kind = SAME_IMAGES.get(dataset, dataset)
    return [entry for entry in PUBLISHED if entry.dataset == kind]


def ours_and_published(
    runs: Sequence[Run], labels: Sequence[str], datasets: Sequence[Dataset]
) -> dict[str, list[Published]]:
    """The bounds of this page and published ones, each with what it was measured on."""
    ours, published = [], []
    for run, images, label in zip(runs, datasets, labels, strict=True):
        results = run.results()
        if results is None:
            continue
        dataset, count = results["dataset"], number(len(images.train.levels))
        about = f"{dataset}, {count} training images" if run.shows_its_own else dataset
        bounds = {"elbo": "-ELBO", "iw_bound": f"-L_{results['iw_bound'].get('num_samples', 'K')}"}
        for key, kind in bounds.items():
            nats = with_error(results[key], -1)
            ours.append(Published(about, label, nats, kind, results["binarization"], "this page"))
        published += [entry for entry in published_for(dataset) if entry not in published]
    return {"ours": ours, "published": published}


def link_of(kind: str) -> Markup:
    """The kind of a model, with a link to its paper if that is known."""
    paper = PAPERS.get(kind)
    return Markup("{}, {}").format(kind, _arxiv(paper)) if paper else Markup.escape(kind)


def _arxiv(number: str) -> Markup:
    return Markup('<a href="https://arxiv.org/abs/{0}" rel="noreferrer">arXiv:{0}</a>').format(
        number
    )
