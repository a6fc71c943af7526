"""`limner play`: the playground, a trained model in the browser."""

from typing import Annotated

from limner.commands.options import FLAT, SUBJECT, RunName, Subject
from limner.errors import InputError
from limner.progress import waiting


def play(
    run: RunName,
    /,
    subject: Annotated[Subject, FLAT] = SUBJECT,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    allow_host: tuple[str, ...] = (),
) -> None:
    """Draw with a trained model in the browser: redraw, sample, interpolate, complete.

    Needs the extra [app]. Only this machine can open the page, unless --host is given. Nothing is
    sent to other servers.

    Args:
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

    opened = subject.data.open(run)
    serve(Player(opened, subject.load(opened)), host, port, allow_host)
