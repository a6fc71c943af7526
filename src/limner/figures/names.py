"""Names of the choices in figures, for commands, which do not import matplotlib."""

from typing import Literal

Format = Literal["svg", "png", "pdf"]
FORMATS: tuple[Format, ...] = ("svg", "png")
Projection = Literal["pca", "tsne"]
