"""The server: on the loopback address by default; nothing is sent to other servers."""

import importlib.util
import ipaddress
import os
import re
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from limner.app.player import Player
from limner.errors import InputError

MAX_BODY = 4 * 2**20
"""Limit for the bytes of a request; drawings have some thousands."""
FIRST_PORT, PORTS = 7860, 100
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}

Message = dict[str, Any]
_ADDRESS = re.compile(r"(https?://)?((?P<name>[\w.-]+)|\[(?P<six>[\da-fA-F:]+)\])(:\d+)?", re.ASCII)


def require_gradio() -> None:
    """Raise `InputError` if gradio is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise InputError("The playground needs gradio; install it with pip install 'limner[app]'.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, a name or an address without brackets."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Limits:
    """ASGI middleware that refuses uploads and large requests; drawings are part of a request.

    With `local`, the Host of a request must be this machine, and pages of other sites are refused:
    those that resolve their own name to 127.0.0.1 (DNS rebinding) or post across origins.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        max_body: int = MAX_BODY,
        local: bool = False,
    ) -> None:
        self.app, self.max_body, self.local = app, max_body, local

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if self.local and scope["type"] in ("http", "websocket") and not _from_here(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await refuse(send, 403, b"This page can be opened only on this machine.")
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"].rstrip("/").endswith("/upload"):
            await refuse(send, 403, b"This page accepts no files.")
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.max_body:
                await refuse(send, 413, b"The request is too large.")
                return
        messages = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def read() -> Message:
            return messages.pop() if messages else await receive()

        await self.app(scope, read, send)


def _from_here(scope: Message) -> bool:
    """Whether there is one Host, which is loopback, and any Origin is loopback too."""
    sent = [(name.lower(), value.decode("latin-1")) for name, value in scope.get("headers", ())]
    hosts = [value for name, value in sent if name == b"host"]
    origins = [value for name, value in sent if name == b"origin"]
    found = [_ADDRESS.fullmatch(address) for address in hosts + origins]
    return len(hosts) == 1 and all(at and is_loopback(at["name"] or at["six"]) for at in found)


async def refuse(send: Any, status: int, sentence: bytes) -> None:
    """Answer with one sentence."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence})


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


def serve(player: Player, host: str, port: int | None) -> None:
    """Serve the page until interrupted.

    Raises:
        InputError: gradio is missing, or the address cannot be used.
    """
    require_gradio()
    port = free_port(host, port)
    os.environ.update(QUIET)
    _ask_no_proxy(host)
    from starlette.middleware import Middleware  # pyright: ignore[reportMissingImports]

    from limner.app.page import Page, text, theme

    page = Page(player).blocks
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        show_error=False,
        inbrowser=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        max_file_size=1,
        app_kwargs={"middleware": [Middleware(Limits, local=is_loopback(host))]},
        theme=theme(),
        css=text("page.css"),
    )
    try:
        shown = f"[{host}]" if ":" in host else host
        print(f"{player.run.name} is at http://{shown}:{port}/ (stop with Ctrl-C)", flush=True)
        threading.Event().wait()
    finally:
        page.close(verbose=False)
