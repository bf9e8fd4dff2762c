"""Behind a reverse proxy: takes client, scheme and host from its headers, and removes the root path.

A proxy may strip the root path or not: both work, and so does this machine's own address. Only the headers of a
trusted proxy count (loopback, if no other is set), and only hosts from the settings. Headers that gradio would trust
from any sender are removed.
"""

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.security.trusted_hosts import is_public_name

if TYPE_CHECKING:
    from studio.settings import Settings

_LOOPBACK = ("127.0.0.0/8", "::1/128", "::ffff:127.0.0.0/104")
_BELIEVED = (b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix", b"x-forwarded-port", b"x-gradio-server")
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def came_by_public_name(scope: Scope) -> bool:
    """Whether a request came by a public host name, also through a proxy: then its sender is not at this machine."""
    return bool(scope.get("state", {}).get("is_public"))


class Proxied:
    """ASGI middleware, outermost.

    Args:
        settings: Its root_path, trusted_hosts, trusted_proxies.
    """

    def __init__(self, app: ASGIApp, settings: "Settings") -> None:
        self._app = app
        self._root = settings.root_path
        self._hosts = settings.trusted_hosts
        self._proxies = networks(settings.trusted_proxies or _LOOPBACK)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, is_below = self._without_root(scope["path"])
        if path == "":
            await RedirectResponse(f"{self._root}/", 308)(scope, receive, send)
            return
        forwarded = self._as_forwarded(scope)
        host = Headers(raw=forwarded["headers"]).get("host", "")
        by_name = is_public_name(host, self._hosts)
        shown_below = self._root if by_name or is_below else ""
        raw_path = self._without_root(scope.get("raw_path", b"").decode("latin-1"))[0].encode("latin-1") or b"/"
        seen = {
            **scope,
            **forwarded,
            "path": path,
            "raw_path": raw_path,
            "state": {**scope.get("state", {}), "is_public": by_name},
        }
        await self._app(seen, receive, _sender_below(shown_below, send) if shown_below else send)

    def _without_root(self, path: str) -> tuple[str, bool]:
        """A path as the application knows it, and whether the root stood before it.

        An empty path is the root without its slash.
        """
        if self._root and (path == self._root or path.startswith(f"{self._root}/")):
            return path[len(self._root) :], True
        return path, False

    def _as_forwarded(self, scope: Scope) -> Scope:
        """Headers, scheme and client as a trusted proxy forwards them; headers of anyone else are removed."""
        headers = Headers(raw=scope["headers"])
        client = scope.get("client")
        kept = [(name, value) for name, value in scope["headers"] if name not in _BELIEVED]
        forwarded: Scope = {"headers": kept}
        if not client or not _is_in(client[0], self._proxies):
            return forwarded
        host = headers.get("x-forwarded-host", "").partition(",")[0].strip()
        if is_public_name(host, self._hosts):
            others = [(name, value) for name, value in kept if name != b"host"]
            forwarded["headers"] = [*others, (b"host", host.encode("latin-1"))]
        if headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower() == "https":
            forwarded["scheme"] = "https"
        addresses = ",".join(headers.getlist("x-forwarded-for")).split(",")
        for address in map(str.strip, reversed(addresses)):
            if is_address(address) and not _is_in(address, self._proxies):
                forwarded["client"] = (address, 0)
                break
        return forwarded


def _sender_below(root: str, send: Send) -> Send:
    """A send with redirects and cookies below the root."""

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            place = headers.get("location", "")
            if place.startswith("/") and not place.startswith("//"):
                headers["Location"] = root + place
            raw = [
                (name, value.replace(b"; Path=/;", f"; Path={root};".encode()) if name == b"set-cookie" else value)
                for name, value in headers.raw
            ]
            message = {**message, "headers": raw}
        await send(message)

    return sender


def networks(texts: Sequence[str]) -> tuple[_Network, ...]:
    """Addresses and networks, read. Raises ValueError: one is neither."""
    return tuple(ipaddress.ip_network(text.strip("[]"), strict=False) for text in texts)


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(address: str, known: Sequence[_Network]) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(found in network for network in known if network.version == found.version)
