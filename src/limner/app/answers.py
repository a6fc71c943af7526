"""What the page calls: values of its fields in, values of its fields out, without gradio."""

import base64
import random
from typing import Any

import torch

from limner.app.drawings import Levels, encoded, read_drawing
from limner.app.player import Player, sheet
from limner.errors import InputError
from limner.figures.films import Film, sprite

Value = dict[str, Any]


def shown(film: Film, said: str = "") -> Value:
    """A film as the page shows it."""
    frames = sheet(film)
    return {
        "src": "data:image/png;base64," + base64.b64encode(sprite(frames)).decode("ascii"),
        "captions": film.captions,
        "names": film.panel_names if film.size == 1 and len(film.panels) > 1 else (),
        "alt": film.alt,
        "caption": film.caption,
        "said": said,
        "height": frames.shape[1],
        "width": frames.shape[2],
    }


class Answers:
    """Fields may have any value; `InputError` says what is wrong with it."""

    def __init__(self, player: Player) -> None:
        self.player = player

    def redraw(self, drawing: Any, steps: float) -> Value | None:
        read = read_drawing(drawing)
        if read is None:
            return None
        player = self.player.with_steps(steps)
        return shown(*player.redrawn(player.seen(read)))

    def sample(self, count: float, seed: float, steps: float) -> Value:
        return shown(self.player.with_steps(steps).sampled(count, seed))

    def walk(self, first: Any, second: Any, frames: float, steps: float) -> Value | None:
        read = [read_drawing(drawing) for drawing in (first, second)]
        if read[0] is None or read[1] is None:
            return None
        player = self.player.with_steps(steps)
        x = torch.cat([player.seen(drawing) for drawing in read if drawing is not None])
        return shown(player.walked(x, frames))

    def complete(self, drawing: Any, rounds: float, seed: float, steps: float) -> Value | None:
        read = read_drawing(drawing)
        if read is None or not read.erased.any():
            return None
        return shown(self.player.with_steps(steps).completed(read, rounds, seed))

    def example(self) -> Value:
        return easel_value(self.player.example(random.randrange(10**6)))

    def taken(self, drawing: Any) -> Value:
        read = read_drawing(drawing)
        if read is None:
            raise InputError("There is no drawing yet; draw one under Redraw.")
        return easel_value(self.player.placed(read))


def easel_value(picture: Levels) -> Value:
    """The value of an easel that shows a picture."""
    return {"picture": encoded(picture), "erased": "", "fit": False}
