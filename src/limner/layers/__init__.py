"""Layers of the models. The modules below are imported on first use."""

from limner.lazy import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {},
    (
        "attention",
        "batch",
        "compiling",
        "convolution",
        "copies",
        "gathered",
        "gaussian",
        "linear",
        "mlp",
        "names",
        "observation",
        "precision",
        "reading",
        "recomputed",
        "recurrent",
    ),
)
