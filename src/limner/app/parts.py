"""Custom parts of the page, each of HTML, CSS and script, and the look of the page."""

import html
from importlib.resources import files
from typing import Any

from limner.app.player import EASEL_SIDE, Player, magnification
from limner.figures.style import READ, WRITE

BRUSH, ERASER = 24, 48
"""Widths in pixels of an easel; a stroke of MNIST is two or three of 28 pixels wide."""
PIXELS = {
    "bernoulli": "each pixel black or white",
    "gaussian": "each pixel a level with Gaussian noise",
    "discretized_logistic": "each pixel one of 256 levels",
    "discretized_logistic_mixture": "each pixel one of 256 levels",
}


def easel(
    player: Player, name: str, mode: str = "draw", live: bool = False, value: Any = None
) -> Any:
    """A field to draw on, or with mode "erase" to erase on; a live one also sends while drawing."""
    channels, height, width = player.model.image_shape
    factor = magnification(player.model, EASEL_SIDE)
    return part(
        "easel",
        name.lower().replace(" ", "-"),
        value,
        name=name,
        mode=mode,
        live=live,
        colour=channels > 1,
        width=width * factor,
        height=height * factor,
        brush=ERASER if mode == "erase" else BRUSH,
    )


def film(
    name: str, empty: str = "", title: str = "", look: str = "", resample: bool = False
) -> Any:
    """Where a scene is shown, or until then the sentence `empty`."""
    title = html.escape(title)
    return part("film", name, empty=empty, title=title, look=look, resample=resample)


def steps(player: Player, name: str) -> Any:
    """The number of steps, hidden if the model has none."""
    import gradio

    trained = player.steps
    return gradio.Slider(
        1,
        player.max_steps,
        trained or 1,
        step=1,
        label="Steps",
        info=f"Trained with {trained}; the same weights work with any number.",
        visible=trained is not None,
        elem_id=f"steps-{name}",
    )


def part(kind: str, identity: str, value: Any = None, **props: Any) -> Any:
    """A part of the page from the files of its kind, which know its `props`."""
    import gradio

    return gradio.HTML(
        value,
        html_template=text(f"{kind}.html"),
        css_template=text(f"{kind}.css"),
        js_on_load=text(f"{kind}.js"),
        apply_default_css=False,
        elem_id=identity,
        **props,
    )


def text(name: str) -> str:
    """A file of the page; empty if there is none."""
    file = files("limner.app").joinpath(name)
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def styles() -> str:
    """The style sheet of the page, with the colours of the windows."""
    return f":root {{ --read: {READ}; --write: {WRITE}; }}\n" + text("page.css")


def theme() -> Any:
    """A plain theme with fonts of the reader's machine and readable secondary text."""
    from gradio.themes import Base

    light, dark = "*neutral_600", "*neutral_300"
    return Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]).set(
        body_text_color_subdued=light,
        body_text_color_subdued_dark=dark,
        block_info_text_color=light,
        block_info_text_color_dark=dark,
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
    )


def about(player: Player) -> str:
    """What the model does, for someone who does not know it; starts with a verb."""
    model = player.model
    channels, height, width = model.image_shape
    if player.steps is not None:
        windows = getattr(model.config, "attention", "none") != "none"
        how = f"draws in {player.steps} steps"
        how += ", looking through a window that moves" if windows else ""
    elif model.num_groups > 1:
        how = f"draws from the top down through {model.num_groups} layers of latent variables"
    else:
        how = "draws at once from one group of latent variables"
    observation = model.config.observation
    pixels = PIXELS.get(observation, f"{observation.replace('_', ' ')} pixels")
    colours = "" if channels == 1 else f" in {channels} channels"
    return (
        f"{how}. Images of {width} x {height}{colours}, {pixels}; "
        f"{model.num_parameters:,} parameters."
    )
