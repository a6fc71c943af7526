"""`limner play`: the playground, a trained model in the browser."""

from typing import Annotated

import tyro

from limner.commands.images import DataName, DataRoot, run_on
from limner.errors import InputError
from limner.training.runs import Checkpoint, WeightKind


def play(
    run: Annotated[str, tyro.conf.Positional],
    /,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    checkpoint: Checkpoint = "best",
    weights: WeightKind = "ema",
    data_name: DataName = None,
    data_root: DataRoot = None,
) -> None:
    """Draw with a trained model in the browser: redraw, sample, interpolate, complete.

    Needs the extra: pip install 'limner[app]'. Only this machine can reach the page unless --host
    says otherwise; nothing is sent elsewhere.

    Args:
        run: a run folder, or the name of a trained model
        host: address to listen on; 0.0.0.0 lets anyone in who can reach this machine
        port: to listen on; the first free one from 7860 where not given
        checkpoint: best by the validation bound, or last
        weights: averaged (ema) or raw
    """
    from limner.app.player import Player
    from limner.app.server import require_gradio, serve

    require_gradio()
    if port is not None and not 1 <= port <= 65535:
        raise InputError(f"--port must be from 1 to 65535; got {port}.")
    opened = run_on(run, data_name, data_root)
    serve(Player(opened, opened.model(checkpoint, weights)), host, port)
