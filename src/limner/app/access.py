"""Who may use the page: Host and Origin of every request, and a token for other machines.

Browsers send Host and Origin by themselves. The checks keep out pages of other sites, which may
let their own name resolve to this machine (DNS rebinding) or post to it across origins.
"""

import ipaddress
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any
from urllib.parse import parse_qs

Message = dict[str, Any]
_ADDRESS = re.compile(r"(https?://)?((?P<name>[\w.-]+)|\[(?P<six>[\da-fA-F:]+)\])(:\d+)?", re.ASCII)
_STARTUP = "/gradio_api/startup-events"
"""Gradio asks itself for this at the start; the answer is true or false."""
_ELSEWHERE = b"This page is not served under that name; limner play --allow-host adds names."
_NO_TOKEN = b"This page needs a token: open the whole address that limner play has printed."


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, a name or an address without brackets."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """ASGI middleware that admits the user, and refuses everything else in one sentence.

    On a loopback address, Host and Origin must be loopback. On another address, or with names of
    its own, Host must be an address or one of those names, Origin must be the same, and a random
    token must come once in the address of the page, then in a cookie.

    Args:
        host: the address that the server listens on.
        names: further names under which browsers may reach it, as through a proxy.
    """

    def __init__(self, host: str, names: Collection[str] = ()) -> None:
        self.local = is_loopback(host) and not names
        self.token = None if self.local else secrets.token_urlsafe(24)
        self.cookie = f"limner-{secrets.token_hex(4)}"
        own = socket.gethostname().partition(".")[0]
        known = {socket.gethostname(), own, f"{own}.local", "localhost", host, *names}
        self.given = frozenset(name.lower() for name in names)
        self.names = frozenset(name.lower() for name in known)

    def guard(self, app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """`app` behind the checks."""

        async def guarded(scope: Message, receive: Any, send: Any) -> None:
            if scope["type"] not in ("http", "websocket"):
                await app(scope, receive, send)
            elif not self._is_known(scope):
                await refuse(scope, send, 403, _ELSEWHERE)
            elif self._is_admitted(scope):
                await app(scope, receive, send)
            elif self._has_token(scope):
                await self._enter(send)
            else:
                await refuse(scope, send, 401, _NO_TOKEN)

        return guarded

    def address(self, host: str, port: int) -> str:
        """The address to open, with the token if there is one."""
        reached = _own_address(host)
        shown = f"[{reached}]" if ":" in reached else reached
        token = f"?token={self.token}" if self.token else ""
        return f"http://{shown}:{port}/{token}"

    def _is_known(self, scope: Message) -> bool:
        hosts, origins = list(_headers(scope, b"host")), list(_headers(scope, b"origin"))
        return (
            len(hosts) == 1
            and self._is_name(hosts[0])
            and all(self._is_same(origin, hosts[0]) for origin in origins)
        )

    def _is_name(self, host: str) -> bool:
        name = _name(host)
        if name is None or "://" in host:
            return False
        return is_loopback(name) or (not self.local and (_is_ip(name) or name in self.names))

    def _is_same(self, origin: str, host: str) -> bool:
        name = _name(origin)
        if name is None:
            return False
        if self.local:
            return is_loopback(name)
        return name in self.given or origin.rpartition("://")[2].lower() == host.lower()

    def _is_admitted(self, scope: Message) -> bool:
        if self.token is None or (scope["type"] == "http" and scope["path"] == _STARTUP):
            return True
        parts = (part for text in _headers(scope, b"cookie") for part in text.split(";"))
        pairs = (part.strip().partition("=") for part in parts)
        return any(name == self.cookie and self._is_token(value) for name, _, value in pairs)

    def _has_token(self, scope: Message) -> bool:
        if scope["type"] != "http" or scope["path"] != "/":
            return False
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        return any(map(self._is_token, query.get("token", ())))

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), (self.token or "").encode())

    async def _enter(self, send: Any) -> None:
        """Set the cookie, and go to the address without the token."""
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Lax"
        headers = [(b"location", b"./"), (b"set-cookie", cookie.encode())]
        headers += [(b"referrer-policy", b"no-referrer"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


async def refuse(scope: Message, send: Any, status: int, sentence: bytes) -> None:
    """Answer with one sentence, or close a WebSocket."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence})


def _headers(scope: Message, wanted: bytes) -> Iterator[str]:
    for name, value in scope.get("headers", ()):
        if name.lower() == wanted:
            yield value.decode("latin-1")


def _name(address: str) -> str | None:
    """The name or IP address in a Host or an Origin; None if it is neither."""
    found = _ADDRESS.fullmatch(address)
    return None if found is None else (found["name"] or found["six"]).lower()


def _is_ip(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _own_address(host: str) -> str:
    """`host`, or for all addresses of this machine the one that other machines probably reach."""
    if not (_is_ip(host) and ipaddress.ip_address(host).is_unspecified):
        return host
    six = ":" in host
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("2001:db8::1" if six else "192.0.2.1", 9))  # sends nothing
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()
