"""The forms in which each kind of object is shown: HTML, text, and a picture file."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Group, RenderableType
from rich.table import Table
from torch import Tensor

from limner import notebook
from limner.data import Dataset
from limner.errors import InputError
from limner.evaluation.comparison import Comparison
from limner.evaluation.evaluation import Evaluation
from limner.evaluation.tables import groups_table, results_table
from limner.figures import style
from limner.figures.contact import contact_sheet
from limner.figures.curves import training_curves
from limner.figures.films import Film
from limner.models import Generation, Inference, LatentVariableModel
from limner.models.representations import images_html, inference_rows, reconstructions
from limner.pictures import gif, grid, png
from limner.training.history import History

SLACK = 1e-3
"""How far pixels may be outside [0, 1]."""
PLOTS = (".png", ".svg", ".pdf")
DPI = 160
"""Dots per inch of a figure as PNG; a page has 100."""


@dataclass(frozen=True)
class Exhibit:
    """The forms in which one object is shown."""

    html: Callable[[], str]
    text: RenderableType | None = None
    """What is printed outside notebooks."""
    picture: Callable[[str], bytes] | None = None
    """The content of a picture file with a suffix."""
    suffixes: tuple[str, ...] = (".png",)
    """The suffixes of a picture file; without a path, the first is used."""
    on_request: bool = False
    """Whether the picture is made only for a path."""


def exhibit_of(what: object) -> Exhibit:  # noqa: PLR0911
    """The forms of an object; raises `InputError` if it cannot be shown."""
    if isinstance(getattr(what, "history", None), History):
        what = getattr(what, "history")  # noqa: B009
    if isinstance(what, Generation):
        return _images(what.images, what._repr_html_)
    if isinstance(what, Inference):
        return _inference(what)
    if isinstance(what, Film):
        return Exhibit(
            what._repr_html_, None, lambda _: gif(what.frames(), seconds=4.0), suffixes=(".gif",)
        )
    if isinstance(what, Evaluation):
        figures = what.figures()
        tables = (
            results_table(figures, what.title),
            groups_table(figures | {"num_images": what.num_images}),
        )
        return Exhibit(what._repr_html_, Group(*tables))
    if isinstance(what, Comparison):
        return Exhibit(what._repr_html_, _table(*what.table()))
    if isinstance(what, History):
        if not len(what):
            raise InputError("There are no records to show; train up to the first validation.")
        table = _table(*what.table())
        return Exhibit(what._repr_html_, table, _drawn(partial(training_curves, what)), PLOTS, True)
    if isinstance(what, Dataset):
        return _figure(_drawn(partial(contact_sheet, what)), what.name)
    if isinstance(what, Figure):
        return _figure(partial(_saved, what), "figure")
    return _images(_as_images(what), None)


def _inference(inference: Inference) -> Exhibit:
    table = _table(*inference_rows(inference))
    if inference.observation is None or not len(inference.log_likelihood):
        return Exhibit(inference._repr_html_, table)
    means = reconstructions(inference.observation)
    return Exhibit(inference._repr_html_, table, lambda _: png(grid(means).magnified()))


def _images(images: Tensor, html: Callable[[], str] | None) -> Exhibit:
    """Images [n, C, H, W] in a grid."""
    if not len(images):
        raise InputError("There are no images to show; give at least one.")
    html = html or (lambda: notebook.page(images_html(images, "images")))
    return Exhibit(html, None, lambda _: png(grid(images).magnified()))


def _figure(drawn: Callable[[str], bytes], name: str) -> Exhibit:
    def html() -> str:
        content = drawn(".png")
        with Image.open(io.BytesIO(content)) as image:
            width = image.width
        return notebook.page(notebook.image(content, "png", round(width * 100 / DPI), name))

    return Exhibit(html, None, drawn, PLOTS)


def _drawn(draw: Callable[[], Figure]) -> Callable[[str], bytes]:
    """The content of a file of a figure in Limner's style."""
    return style.styled(lambda suffix: _saved(draw(), suffix))


def _saved(figure: Figure, suffix: str) -> bytes:
    """The figure as a file, on white if its ground is transparent."""
    stream = io.BytesIO()
    ground = "white" if to_rgba(figure.get_facecolor())[3] == 0 else "auto"
    figure.savefig(stream, format=suffix[1:], dpi=DPI, bbox_inches="tight", facecolor=ground)
    return stream.getvalue()


def _table(headings: list[str], rows: list[list[str]]) -> Table:
    table = Table(headings[0])
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _as_images(what: object) -> Tensor:
    """Images [n, C, H, W] in [0, 1] from a tensor, an array, or a list of images."""
    if isinstance(what, (list, tuple)) and what:
        images = [_channels_first(_tensor(each)) for each in what]
        if len({each.shape[1:] for each in images}) > 1:
            raise InputError("The images of the list differ in size; show them one by one.")
        return torch.cat(images)
    return _channels_first(_tensor(what))


def _tensor(what: object) -> Tensor:
    if isinstance(what, np.ndarray) and what.dtype.kind in "bfu":
        what = torch.from_numpy(np.ascontiguousarray(what))
    if not isinstance(what, Tensor) or what.is_complex():
        raise _unshowable(what)
    what = what.detach()
    if what.dtype == torch.uint8:
        return what / 255
    if what.dtype != torch.bool and not what.is_floating_point():
        raise InputError(f"Images must be floats, bool or uint8 to be shown, not {what.dtype}.")
    known = what.float().nan_to_num(0.0, 0.0, 0.0)
    if known.numel() and not (known.min() >= -SLACK and known.max() <= 1 + SLACK):
        raise InputError(
            f"Images must have values in [0, 1] to be shown; these range from {known.min():g} to "
            f"{known.max():g}, so rescale them."
        )
    return what.float()


def _channels_first(images: Tensor) -> Tensor:
    """Images [n, C, H, W] of [H, W], [C, H, W], [n, H, W] or [n, C, H, W], or channels last."""
    few = range(1, 5)
    if images.dim() not in (2, 3, 4) or 0 in images.shape[1:]:
        raise InputError(
            f"Images have the shape [n, C, H, W], [C, H, W] or [H, W], not {list(images.shape)}; "
            "reshape them."
        )
    if images.dim() >= 3 and images.shape[-3] not in few and images.shape[-1] in few:
        images = images.movedim(-1, -3)
    if images.dim() == 2:
        return images[None, None]
    if images.dim() == 3:
        return images[None] if images.shape[0] in few else images[:, None]
    return images


def _unshowable(what: object) -> InputError:
    if isinstance(what, LatentVariableModel):
        return InputError("A model is not shown itself; show what it draws: model.generate(16).")
    return InputError(
        f"Limner cannot show a {type(what).__name__}; give images, what a model returned, a "
        "history, an evaluation, a comparison, a dataset, a film or a matplotlib figure."
    )
