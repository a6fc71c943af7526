"""`limner play`: the playground, a trained model in the browser."""

from typing import Annotated

from limner.commands.options import FLAT, SUBJECT, RunNames, Subject
from limner.errors import InputError
from limner.progress import waiting


def play(
    runs: RunNames,
    /,
    subject: Annotated[Subject, FLAT] = SUBJECT,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    allow_host: tuple[str, ...] = (),
) -> None:
    """Draw with trained models in the browser: redraw, sample, interpolate, complete.

    Needs the extra [app]. Only this machine can open the page, unless --host is given. Nothing is
    sent to other servers.

    Args:
        runs: run folders, names of trained models, or hub:owner/name; two answer side by side
        host: address to listen on; with 0.0.0.0 any machine in the network can open the page if it
            has the token in the printed address
        port: port to listen on; the first free one from 7860 if not given
        allow_host: names under which a browser reaches the page, as through a proxy
    """
    if port is not None and not 1 <= port <= 65535:
        raise InputError(f"--port must be from 1 to 65535; got {port}.")
    with waiting("loading the playground"):
        from limner.app.player import Player
        from limner.app.server import serve

    if not runs:
        raise InputError("Name a trained model or a run folder, as in: limner play mnist-draw.")
    opened = [subject.data.open(run) for run in runs]
    players = [Player(run, subject.load(run)) for run in opened]
    if len({player.model.image_shape for player in players}) > 1:
        raise InputError("These models have images of different shapes; name models of one shape.")
    serve(players, host, port, allow_host)
