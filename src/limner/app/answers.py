"""What the page calls: values of its fields in, scenes out, without gradio."""

import random
from typing import Any

import torch

from limner.app.drawings import Levels, encoded, read_drawing
from limner.app.player import Player
from limner.app.scene import Scene
from limner.errors import InputError

Value = dict[str, Any]


class Answers:
    """Fields may have any value; `InputError` says what is wrong with it."""

    def __init__(self, player: Player) -> None:
        self.player = player

    def redraw(self, drawing: Any, steps: float) -> Scene | None:
        read = read_drawing(drawing)
        if read is None:
            return None
        player = self.player.with_steps(steps)
        return player.redrawn(player.seen(read))._replace(plays=not drawing.get("live"))

    def resample(self, drawing: Any, steps: float, ask: Any) -> Scene | None:
        """`ask` has the number of steps to keep and the seed."""
        read = read_drawing(drawing)
        if read is None or not isinstance(ask, dict):
            return None
        player = self.player.with_steps(steps)
        return player.resampled(player.seen(read), ask.get("keep"), ask.get("seed"))

    def sample(self, count: float, seed: float, steps: float) -> Scene:
        return self.player.with_steps(steps).sampled(count, seed)

    def walk(self, first: Any, second: Any, frames: float, steps: float) -> Scene | None:
        read = [read_drawing(drawing) for drawing in (first, second)]
        if read[0] is None or read[1] is None:
            return None
        player = self.player.with_steps(steps)
        x = torch.cat([player.seen(drawing) for drawing in read if drawing is not None])
        return player.walked(x, frames)

    def complete(self, drawing: Any, rounds: float, seed: float, steps: float) -> Scene | None:
        read = read_drawing(drawing)
        if read is None or not read.erased.any():
            return None
        return self.player.with_steps(steps).completed(read, rounds, seed)

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
