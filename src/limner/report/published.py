"""Published results to compare with, each with its binarization, bound and source.

Negative bounds in nats per image, lower is better. Only numbers with the same binarization and the
same kind of bound are comparable: on MNIST, static binarization costs about two nats more than
dynamic, and an ELBO is two to four nats worse than an importance-weighted bound.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """One published result."""

    dataset: str
    model: str
    nats: str
    """-log p(x) or its bound, as printed; with "<" if the authors give it so."""
    bound: str
    """ELBO, or IW: the importance-weighted bound with its number of samples K."""
    binarization: str
    source: str


_DRAW = "Gregor et al. 2015, arXiv:1502.04623"
_CONVDRAW = "Gregor et al. 2016, arXiv:1604.08772"
_IWAE = "Burda et al. 2016, arXiv:1509.00519"
_LADDER = "Sønderby et al. 2016, arXiv:1602.02282"
_BIVA = "Maaløe et al. 2019, arXiv:1902.02102"
_NVAE = "Vahdat and Kautz 2020, arXiv:2007.03898"
_L_1000, _L_5000 = (f"IW, K = {samples}" for samples in (1000, 5000))

PUBLISHED = (
    Published("mnist", "DRAW without attention", "87.40", "ELBO", "static", _DRAW),
    Published("mnist", "DRAW, filterbank attention, T = 64", "80.97", "ELBO", "static", _DRAW),
    Published("mnist", "VAE, one layer, 200-200-z50", "88.71", _L_5000, "static", _IWAE),
    Published("mnist", "VAE, one layer, 200-200-z50", "86.76", _L_5000, "dynamic", _IWAE),
    Published("mnist", "IWAE, two layers, k = 50", "82.90", _L_5000, "dynamic", _IWAE),
    Published("mnist", "Ladder VAE, five layers", "81.84", _L_5000, "dynamic", _LADDER),
    Published("mnist", "BIVA", "80.60", "ELBO", "dynamic", _BIVA),
    Published("mnist", "BIVA", "78.41", _L_1000, "dynamic", _BIVA),
    Published("mnist", "NVAE", "78.01", _L_1000, "dynamic", _NVAE),
    Published("omniglot", "DRAW", "96.50", "ELBO", "not stated", _CONVDRAW),
    Published("omniglot", "ConvDRAW", "< 91.00", "ELBO", "not stated", _CONVDRAW),
    Published("omniglot", "Ladder VAE, five layers", "102.11", _L_5000, "dynamic", _LADDER),
)

SAME_IMAGES = {"mnist-5k": "mnist", "static-mnist": "mnist"}
"""Datasets with images of the same kind as a published one, though maybe fewer."""


def published_for(dataset: str) -> list[Published]:
    """Published results on images like those of `dataset`."""
    kind = SAME_IMAGES.get(dataset, dataset)
    return [entry for entry in PUBLISHED if entry.dataset == kind]
