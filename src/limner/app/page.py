"""The page: easels to draw on, and films that answer. The answers are in `answers`."""

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from limner.app import parts
from limner.app.answers import Answers
from limner.app.player import MAX_FRAMES, MAX_ROUNDS, MAX_SAMPLES, Player
from limner.app.scene import Scene, data_url
from limner.errors import InputError


class Shown(NamedTuple):
    """Where one model answers."""

    answers: Answers
    film: Any
    steps: Any
    again: Any = None
    """The film of what was resampled, if the first film offers that."""


class Page:
    """Gradio's Blocks, section by section. Several models answer side by side."""

    def __init__(self, *players: Player) -> None:
        import gradio

        self.gr: Any = gradio
        self.players, self.answers = players, [Answers(player) for player in players]
        title = " and ".join(player.run.name for player in players)
        with self.gr.Blocks(title=f"Limner: {title}", analytics_enabled=False) as blocks:
            self.blocks = blocks
            self.gr.Markdown("\n\n".join([f"# {title}", *map(self._about, players)]))
            self.saved = parts.part("saved", "saved", visible="hidden")
            drawing = self._redraw()
            self._sample()
            self._interpolate()
            self._complete(drawing)

    def _about(self, player: Player) -> str:
        subject = f"**{player.run.name}**" if len(self.players) > 1 else "This model"
        return f"{subject} {parts.about(player)}"

    def _redraw(self) -> Any:
        with self.gr.Tab("Redraw"), self.gr.Row():
            with self._column():
                drawing = self._easel("Your drawing", live=True, value=self.answers[0].example)
            films = self._films("redrawn", "Draw on the black field: the model redraws it.")
        for shown in films:
            inputs, resample = [drawing, shown.steps], shown.answers.resample
            self._on([drawing.change], shown, Answers.redraw, [drawing])
            self._fill(shown.film.submit, resample, inputs, shown.again, asks=True)
            self._save(shown.again, resample, inputs, asks=True)
        return drawing

    def _sample(self) -> None:
        gr = self.gr
        with gr.Tab("Sample"), gr.Row():
            with self._column():
                another = gr.Button("Draw others", size="sm")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                count = gr.Slider(1, MAX_SAMPLES, 16, step=1, label="Samples")
            films = self._films("samples", "Samples from the prior.")
        triggers = [self.blocks.load, seed.change, count.release]
        for shown in films:
            self._on(triggers, shown, Answers.sample, [count, seed])
        self._fill(another.click, lambda: random.randrange(10**6), [], seed)

    def _interpolate(self) -> None:
        gr = self.gr
        with gr.Tab("Interpolate"), gr.Row():
            with self._column(2), gr.Row():
                with gr.Column(min_width=120):
                    first = self._easel("From")
                with gr.Column(min_width=120):
                    second = self._easel("To")
            films = self._films("walked", "Draw two: the model walks from one to the other.")
            frames = gr.Slider(2, MAX_FRAMES, 24, step=1, label="Frames")
        for shown in films:
            triggers = [first.change, second.change, frames.release]
            self._on(triggers, shown, Answers.walk, [first, second, frames])

    def _complete(self, drawing: Any) -> None:
        gr = self.gr
        with gr.Tab("Complete"), gr.Row():
            with self._column():
                easel = self._easel("Erase a part", "erase", value=self.answers[0].example)
                take = gr.Button("Take my drawing", size="sm")
            films = self._films(
                "completed", "Erase a part with the mouse: three chains redraw it in rounds."
            )
            rounds = gr.Slider(1, MAX_ROUNDS, 30, step=1, label="Rounds")
            seed = gr.Number(0, label="Seed", precision=0, minimum=0)
        for shown in films:
            triggers = [easel.change, rounds.release, seed.change]
            self._on(triggers, shown, Answers.complete, [easel, rounds, seed])
        self._fill(take.click, self.answers[0].taken, [drawing], easel)

    def _films(self, name: str, empty: str) -> list[Shown]:
        """A column per model: a film and, if the model has steps, their number."""
        several, redraws = len(self.players) > 1, name == "redrawn"
        films = []
        for k, answers in enumerate(self.answers):
            end = f"-{k + 1}" if k else ""
            title = answers.player.run.name if several else ""
            with self._column(2):
                film = parts.film(name + end, empty, title, resample=redraws)
                steps = parts.steps(answers.player, name + end)
                again = parts.film(f"resampled{end}", look="few") if redraws else None
                films.append(Shown(answers, film, steps, again))
        return films

    def _on(
        self,
        triggers: Sequence[Any],
        shown: Shown,
        answer: Callable[..., Scene | None],
        inputs: list[Any],
    ) -> None:
        """Show the answer to `inputs` and the number of steps when one of them changes."""
        bound = functools.partial(answer, shown.answers)
        every = [*inputs, shown.steps]
        cleared = [shown.again] if shown.again else []
        self._fill([*triggers, shown.steps.release], bound, every, shown.film, cleared)
        self._save(shown.film, bound, every)

    def _save(
        self, film: Any, answer: Callable[..., Any], inputs: list[Any], asks: bool = False
    ) -> None:
        """Save the answer to `inputs` as a GIF when the film asks for it."""

        def saved(*values: Any) -> Any:
            scene = answer(*values)
            name = "-".join([*(player.run.name for player in self.players), film.elem_id])
            return scene and {"url": data_url("gif", scene.gif()), "file": f"{name}.gif"}

        self._fill(film.download, saved, inputs, self.saved, asks=asks, beside=[film])

    def _fill(
        self,
        triggers: Any,
        answer: Callable[..., Any],
        inputs: list[Any],
        out: Any,
        cleared: Sequence[Any] = (),
        asks: bool = False,
        beside: Sequence[Any] | None = None,
    ) -> None:
        """Show an answer in `out`, and that the model is working there and beside the inputs.

        Args:
            cleared: films that the answer makes stale.
            asks: whether the event has data, which `answer` gets after the inputs.
            beside: where the work is shown, if elsewhere.
        """
        self.gr.on(
            triggers,
            self._told(answer, len(cleared), asks),
            inputs,
            [out, *cleared],
            show_progress="minimal",
            show_progress_on=list(beside or [out, *inputs]),
            trigger_mode="always_last",
            concurrency_limit=1,
            concurrency_id="model",
            api_visibility="private",
        )

    def _told(self, answer: Callable[..., Any], cleared: int, asks: bool) -> Callable[..., Any]:
        """`answer` as gradio calls it.

        Its `InputError` is shown on the page; other errors go to the terminal.
        """

        from gradio import EventData

        def plain(*values: Any) -> Any:
            try:
                found = answer(*values)
            except InputError as error:
                raise self.gr.Error(str(error), duration=6, print_exception=False) from None
            value = found.value() if isinstance(found, Scene) else found
            return (value, *[None] * cleared) if cleared else value

        def asking(drawing: Any, steps: Any, event: EventData) -> Any:
            return plain(drawing, steps, event._data)

        return asking if asks else plain

    def _column(self, scale: int = 1) -> Any:
        return self.gr.Column(scale=scale, min_width=300)

    def _easel(self, name: str, mode: str = "draw", live: bool = False, value: Any = None) -> Any:
        made = parts.easel(self.players[0], name, mode, live, value)
        self._fill(made.submit, self.answers[0].example, [], made)
        return made
