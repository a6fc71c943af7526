"""The page: easels to draw on, and films that answer. The answers are in `answers`."""

import functools
import random
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from limner.app.answers import Answers
from limner.app.player import (
    EASEL_SIDE,
    MAX_FRAMES,
    MAX_ROUNDS,
    MAX_SAMPLES,
    Player,
    magnification,
)
from limner.errors import InputError

BRUSH, ERASER = 24, 48
"""Widths in pixels of an easel; a stroke of MNIST is two or three of 28 pixels wide."""


class Page:
    """Gradio's Blocks, section by section."""

    def __init__(self, player: Player) -> None:
        import gradio

        self.gr: Any = gradio
        self.player, self.answers = player, Answers(player)
        with self.gr.Blocks(title=f"Limner: {player.run.name}", analytics_enabled=False) as blocks:
            self.blocks = blocks
            self.gr.Markdown(f"# {player.run.name}\n{about(player)}")
            self.steps = self._steps()
            drawing = self._redraw()
            self._sample()
            self._interpolate()
            self._complete(drawing)

    def _steps(self) -> Any:
        """The number of steps, hidden if the model has none."""
        trained = self.player.steps
        return self.gr.Slider(
            1,
            self.player.max_steps,
            trained or 1,
            step=1,
            label="Steps",
            info=f"Trained with {trained}; the same weights work with any number.",
            visible=trained is not None,
            elem_id="steps",
        )

    def _redraw(self) -> Any:
        with self.gr.Tab("Redraw"), self.gr.Row():
            with self._column():
                drawing = self._easel("Your drawing")
            with self._column(2):
                film = self._film("redrawn", "Draw on the black field: the model redraws it.")
        self._on([drawing.change], self.answers.redraw, [drawing], film)
        return drawing

    def _sample(self) -> None:
        gr = self.gr
        with gr.Tab("Sample"), gr.Row():
            with self._column():
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                count = gr.Slider(1, MAX_SAMPLES, 16, step=1, label="Samples")
                another = gr.Button("Another seed", size="sm")
            with self._column(2):
                film = self._film("samples", "Samples from the prior.")
        triggers = [self.blocks.load, seed.change, count.release]
        self._on(triggers, self.answers.sample, [count, seed], film)
        self._fill(another.click, lambda: random.randrange(10**6), [], seed)

    def _interpolate(self) -> None:
        gr = self.gr
        with gr.Tab("Interpolate"), gr.Row():
            with self._column():
                first = self._easel("From")
            with self._column():
                second = self._easel("To")
            with self._column():
                film = self._film("walked", "Draw two: the model walks from one to the other.")
                frames = gr.Slider(2, MAX_FRAMES, 24, step=1, label="Frames")
        triggers = [first.change, second.change, frames.release]
        self._on(triggers, self.answers.walk, [first, second, frames], film)

    def _complete(self, drawing: Any) -> None:
        gr = self.gr
        with gr.Tab("Complete"), gr.Row():
            with self._column():
                easel = self._easel("Erase a part", "erase")
                take = gr.Button("Take my drawing", size="sm")
                rounds = gr.Slider(1, MAX_ROUNDS, 30, step=1, label="Rounds")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            with self._column(2):
                film = self._film(
                    "completed",
                    "Erase a part with the mouse: three chains redraw it in rounds.",
                )
        triggers = [easel.change, rounds.release, seed.change]
        self._on(triggers, self.answers.complete, [easel, rounds, seed], film)
        self._fill(take.click, self.answers.taken, [drawing], easel)
        self._fill(self.blocks.load, self.answers.example, [], easel)

    def _on(
        self, triggers: Sequence[Any], answer: Callable[..., Any], inputs: list[Any], film: Any
    ) -> None:
        """Show the answer to `inputs` and the number of steps when one of them changes."""
        self._fill([*triggers, self.steps.release], answer, [*inputs, self.steps], film)

    def _fill(self, triggers: Any, answer: Callable[..., Any], inputs: list[Any], out: Any) -> None:
        self.gr.on(
            triggers,
            self._told(answer),
            inputs,
            out,
            show_progress="hidden",
            trigger_mode="always_last",
            concurrency_limit=1,
            concurrency_id="model",
            api_visibility="private",
        )

    def _told(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        """`answer`, whose `InputError` is shown on the page; other errors go to the terminal."""

        @functools.wraps(answer)
        def wrapped(*values: Any) -> Any:
            try:
                return answer(*values)
            except InputError as error:
                raise self.gr.Error(str(error), duration=6, print_exception=False) from None

        return wrapped

    def _column(self, scale: int = 1) -> Any:
        return self.gr.Column(scale=scale, min_width=300)

    def _easel(self, name: str, mode: str = "draw") -> Any:
        channels, height, width = self.player.model.image_shape
        factor = magnification(self.player.model, EASEL_SIDE)
        easel = self._part(
            "easel",
            name.lower().replace(" ", "-"),
            name=name,
            mode=mode,
            colour=channels > 1,
            width=width * factor,
            height=height * factor,
            brush=ERASER if mode == "erase" else BRUSH,
        )
        self._fill(easel.submit, self.answers.example, [], easel)
        return easel

    def _film(self, name: str, empty: str) -> Any:
        return self._part("film", name, empty=empty)

    def _part(self, kind: str, identity: str, **props: Any) -> Any:
        """A custom part of the page: its HTML, CSS and script, and their properties."""
        return self.gr.HTML(
            None,
            html_template=text(f"{kind}.html"),
            css_template=text(f"{kind}.css"),
            js_on_load=text(f"{kind}.js"),
            apply_default_css=False,
            elem_id=identity,
            **props,
        )


def text(name: str) -> str:
    """A file of the page."""
    return files("limner.app").joinpath(name).read_text(encoding="utf-8")


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
    """One line about the model."""
    channels, height, width = player.model.image_shape
    kind = getattr(player.model.config, "kind", "model")
    colours = "grey" if channels == 1 else f"{channels} channels"
    return (
        f"{kind}, {player.model.num_parameters:,} parameters, images of {width} x {height} in "
        f"{colours}, {player.model.config.observation.replace('_', ' ')} observation"
    )
