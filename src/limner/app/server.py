"""The server: on the loopback address by default; nothing is sent to other servers."""

import importlib.util
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from limner.app.access import Access, Message, refuse
from limner.app.player import Player
from limner.errors import InputError
from limner.extras import install
from limner.progress import waiting

MAX_BODY = 4 * 2**20
"""Limit for the bytes of a request; drawings have some thousands."""
FIRST_PORT, PORTS = 7860, 100
QUIET = {
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(2**31),  # no statistics of answers, which use pandas
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
PLAIN: dict[str, Any] = {
    "share": False,
    "quiet": True,
    "prevent_thread_lock": True,
    "show_error": False,
    "inbrowser": False,
    "footer_links": [],
    "run_history": False,
    "enable_monitoring": False,
    "ssr_mode": False,
    "mcp_server": False,
    "pwa": False,
    "max_file_size": 1,
}
"""Gradio's server without what it adds to the page or offers to others."""


def require_gradio() -> None:
    """Raise `InputError` if gradio is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise InputError(f"The playground needs gradio; install it with {install('app')}.")


class Limits:
    """ASGI middleware that refuses uploads and large requests; drawings are part of a request."""

    def __init__(self, app: Callable[..., Awaitable[None]], max_body: int = MAX_BODY) -> None:
        self.app, self.max_body = app, max_body

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"].rstrip("/").endswith("/upload"):
            await refuse(scope, send, 403, b"This page accepts no files.")
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.max_body:
                await refuse(scope, send, 413, b"The request is too large.")
                return
        messages = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def read() -> Message:
            return messages.pop() if messages else await receive()

        await self.app(scope, read, send)


def free_port(host: str, port: int | None) -> int:
    """The given port, or the first free one from 7860.

    Raises:
        InputError: it is in use, or the host is not an address of this machine.
    """
    candidates = range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]
    reason = ""
    for candidate in candidates:
        try:
            family = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                if os.name != "nt":  # on Windows this would bind a port that is in use
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, candidate))
            return candidate
        except OSError as error:
            reason = error.strerror or str(error)
    what = f"port {port}" if port is not None else f"any port from {FIRST_PORT}"
    raise InputError(
        f"Cannot listen on {host}, {what} ({reason}); choose another --port or --host."
    )


def _ask_no_proxy(host: str) -> None:
    """Gradio requests its own page at the start, which must not go through a proxy."""
    for name in ("NO_PROXY", "no_proxy"):
        known = os.environ.get(name)
        os.environ[name] = ",".join(filter(None, [known, host, "localhost", "127.0.0.1"]))


def serve(
    players: Sequence[Player], host: str, port: int | None, names: Collection[str] = ()
) -> None:
    """Serve the page until interrupted. `names` are further names that browsers may use for it.

    Raises:
        InputError: gradio is missing, or the address cannot be used.
    """
    require_gradio()
    port = free_port(host, port)
    os.environ.update(QUIET)
    _ask_no_proxy(host)
    access = Access(host, names)
    with waiting("starting the playground"):
        page = _launched(players, host, port, access)
    try:
        address = access.address(host, port)
        shown = " and ".join(player.run.name for player in players)
        print(f"{shown} on {address} (stop with Ctrl-C)", flush=True)
        threading.Event().wait()
    finally:
        page.close(verbose=False)


def _launched(players: Sequence[Player], host: str, port: int, access: Access) -> Any:
    """The page, served."""
    from starlette.middleware import Middleware

    from limner.app.page import Page
    from limner.app.parts import styles, theme

    page = Page(*players).blocks
    page.launch(
        server_name=host,
        server_port=port,
        app_kwargs={"middleware": [Middleware(access.guard), Middleware(Limits)]},
        theme=theme(),
        css=styles(),
        **PLAIN,
    )
    return page
