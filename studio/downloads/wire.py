"""Connections to the hub and to the hosts it redirects to for large files; to no others.

Only https, only the hub's own hosts, only public addresses, each redirect checked, no proxy of the environment, the
token only to the hub itself. For tests, the hub may be a plain http address of this machine. A request can be cut
from any thread.
"""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, urljoin, urlsplit

import certifi

from contract.errors import HubUnavailable, JobError, StudioError

HUB = "https://huggingface.co"
_SISTERS = (".huggingface.co", ".hf.co")  # hosts that the hub sends for large files
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_LOOK_S = 0.2
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Offline(HubUnavailable):
    """The hub can't be reached from this machine now."""

    default_code = "offline"


class Broken(Exception):
    """An open connection ended early: it is worth another try."""


class Late(Broken):
    """The other end sends, but too slowly."""


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub that models are downloaded from.

    Attributes:
        endpoint: https, or http of this machine's own.
        token: Of the environment only; sent to the endpoint and to no other host.
        is_offline: No connection may be made at all (HF_HUB_OFFLINE).
    """

    endpoint: str = HUB
    token: str | None = field(default=None, repr=False)
    is_offline: bool = False

    @property
    def host(self) -> str:
        """Its name, for sentences."""
        return urlsplit(self.endpoint).hostname or ""


class Wire:
    """Sends requests to the hub, one at a time; `cut` ends it, and every later one, until `reopen`.

    Args:
        timeout_s: For each single wait, and twice that from the name of a host to the end of its answer's head.
    """

    def __init__(self, hub: Hub, timeout_s: float = 15.0) -> None:
        self.hub = hub
        self._timeout_s = timeout_s
        self._is_late = False
        self._own = urlsplit(hub.endpoint)
        self._is_test = self._own.scheme == "http" and self._own.hostname in _LOOPBACK
        if not self._is_test and self._own.scheme != "https":
            raise StudioError(f"“{hub.endpoint[:80]}” is not an https address.", code="settings")
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False

    def cut(self) -> None:
        """End the current request, which raises Broken."""
        with self._lock:
            self._is_cut = True
            if self._socket is not None:
                with suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def reopen(self) -> None:
        """Allow requests again."""
        with self._lock:
            self._is_cut = False

    @contextmanager
    def ask(
        self, path: str, headers: Mapping[str, str] | None = None, *, whole_s: float | None = None
    ) -> Iterator[HTTPResponse]:
        """GET a path of the hub, redirects followed; the body is read inside the `with`.

        Args:
            whole_s: The most that the whole request may take, body included; None: the reader limits it.

        Raises:
            Late: it took longer.
            Offline: nobody answers, or this machine is to stay offline.
            Broken: the connection ended, here or within the `with`.
            JobError: it redirects to a host that is not the hub's.
        """
        self._is_late = False
        with self._timed(whole_s):
            yield from self._asked(path, headers or {})

    @contextmanager
    def _timed(self, seconds: float | None) -> Iterator[None]:
        """Cut the connection after so many seconds, even while data arrives."""
        if seconds is None:
            yield
            return
        timer = threading.Timer(seconds, self._be_late)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (Broken, OSError, HTTPException):
            if self._is_late:
                raise Late(f"not all within {seconds:g} s") from None
            raise
        finally:
            timer.cancel()
        if self._is_late:
            raise Late(f"not all within {seconds:g} s")

    def _be_late(self) -> None:
        with self._lock:
            self._is_late = True
            if self._socket is not None:
                with suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _asked(self, path: str, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
        url = urlsplit(urljoin(self.hub.endpoint + "/", path.lstrip("/")))
        for _ in range(_MOST_REDIRECTS + 1):
            self._check(url)
            connection = None
            try:
                with self._timed(2 * self._timeout_s):
                    connection = self._connect(url)
                    sent = {"User-Agent": "Darkroom", "Accept-Encoding": "identity", **headers}
                    if self.hub.token and url.hostname == self._own.hostname:
                        sent["Authorization"] = f"Bearer {self.hub.token}"
                    target = f"{url.path}?{url.query}" if url.query else url.path
                    with self._errors_as_broken():
                        connection.request("GET", target, headers=sent)
                        answer = connection.getresponse()
                place = answer.headers.get("Location")
                if answer.status not in _REDIRECTS or not place:
                    with self._errors_as_broken():
                        yield answer
                    return
                url = urlsplit(urljoin(url.geturl(), place))
            finally:
                with self._lock:
                    self._socket = None
                if connection is not None:
                    connection.close()
        raise JobError(f"{self.hub.host} redirects too often.", "Try again later.", code="download_failed")

    def _check(self, url: SplitResult) -> None:
        host = url.hostname or ""
        is_own = (url.scheme, host, url.port) == (self._own.scheme, self._own.hostname, self._own.port)
        is_sister = (
            not self._is_test
            and url.scheme == "https"
            and url.port in (None, 443)
            and self._own.hostname == urlsplit(HUB).hostname
            and host.endswith(_SISTERS)
        )
        if not (is_own or is_sister) or "@" in url.netloc:
            raise JobError(
                f"{self.hub.host} redirected to “{host[:60]}”, which is not one of its hosts.",
                "Nothing was fetched from there.",
                code="download_failed",
            )

    def _connect(self, url: SplitResult) -> HTTPConnection:
        """A connection whose address is checked before anything is sent."""
        if self.hub.is_offline:
            raise Offline("This machine is set to stay offline (HF_HUB_OFFLINE).", "Remove the setting.")
        if self._is_cut or self._is_late:
            raise Broken("cut")
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        try:
            line = self._line_to(host, port)
        except OSError:
            raise Offline(f"No internet: {host} can't be reached.", "Everything else works. Try again later.") from None
        try:
            if not self._is_test and not is_public_address(str(line.getpeername()[0])):
                raise Offline(
                    f"{host} resolves to an address within this network.", "Correct the network's name server."
                )
            if url.scheme == "https":
                context = ssl.create_default_context()
                context.load_verify_locations(certifi.where())  # python.org's Python for macOS has none
                line = context.wrap_socket(line, server_hostname=host, do_handshake_on_connect=False)
            with self._lock:
                self._socket = line
            if isinstance(line, ssl.SSLSocket):
                line.do_handshake()
        except (OSError, StudioError) as error:
            line.close()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise Offline(
                    f"The certificate of {host} is not valid.",
                    "A proxy of this network may be in between.",
                ) from None
            if isinstance(error, OSError):
                raise Broken(str(error)) from None
            raise
        connection: HTTPConnection = (HTTPSConnection if url.scheme == "https" else HTTPConnection)(host, url.port)
        connection.sock = line
        return connection

    def _line_to(self, host: str, port: int) -> socket.socket:
        """A plain connection. A name lookup has no timeout and can't be cut, so a thread does it.

        Raises:
            OSError: nobody answers there in time.
            Broken: it was cut meanwhile.
        """
        made: Future[socket.socket] = Future()

        def connect() -> None:
            try:
                made.set_result(socket.create_connection((host, port), self._timeout_s))
            except OSError as error:
                made.set_exception(error)

        def close(late: "Future[socket.socket]") -> None:
            if late.exception() is None:
                late.result().close()

        threading.Thread(target=connect, name="hub-connect", daemon=True).start()
        while not wait([made], _LOOK_S).done:
            if self._is_cut or self._is_late:
                made.add_done_callback(close)
                raise Broken("cut") if self._is_cut else TimeoutError(f"{host} was not reached in time")
        return made.result()

    @contextmanager
    def _errors_as_broken(self) -> Iterator[None]:
        try:
            yield
        except (ConnectionError, TimeoutError, ssl.SSLError, HTTPException) as error:
            raise Broken(str(error)) from None


def is_public_address(address: str) -> bool:
    """Whether an address is a public one, also inside an IPv6 address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        teredo = found.teredo[1] if found.teredo else None
        inner = found.ipv4_mapped or found.sixtofour or teredo
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return found.is_global and not found.is_multicast
