"""The password of --lan: a page of its own, a session cookie, and a limit on tries per address.

No address can lock out another. Programs may send HTTP Basic; the user name decides who owns their jobs.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.errors import NotSignedIn, TooManyTries
from api.security.identity import Sessions

MOST_ADDRESSES = 10_000
LONGEST_WAIT_S = 60.0
FORGET_AFTER_S = 15 * 60.0
MAX_FORM_BYTES = 4096
_PAGE = Path(__file__).parents[1] / "static" / "login.html"


@dataclass(slots=True)
class _Tries:
    failures: int
    next_at: float
    last_at: float


class Throttle:
    """Doubles the wait after every wrong password of an address: 1, 2, 4 … 60 s.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Seconds until this address may try again; 0 when it may now."""
        tries = self._tries.get(_network(address))
        return max(0.0, tries.next_at - self._clock()) if tries else 0.0

    def failed(self, address: str) -> float:
        """Remember a wrong password.

        Returns:
            Seconds until the next try.
        """
        now, key = self._clock(), _network(address)
        tries = self._tries.pop(key, None)
        failures = tries.failures + 1 if tries and now - tries.last_at < FORGET_AFTER_S else 1
        wait_s = min(2.0 ** min(failures - 1, 10), LONGEST_WAIT_S)
        self._tries[key] = _Tries(failures, now + wait_s, now)
        if len(self._tries) > MOST_ADDRESSES:
            self._tries.popitem(last=False)
        return wait_s

    def passed(self, address: str) -> None:
        """Forget the failures of an address that knew the password."""
        self._tries.pop(_network(address), None)


def _network(address: str) -> str:
    """IPv6 hosts own a /64 each, so they are counted by it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return address


class PasswordAuth:
    """Checks for a session or the password.

    Args:
        password: Asked of every visitor of the network.
        sessions: Makes and checks the cookie.
        throttle: Slows wrong tries.
    """

    def __init__(self, password: str, sessions: Sessions, throttle: Throttle) -> None:
        self._digest = hashlib.sha256(password.encode("utf-8", "surrogateescape")).digest()
        self._sessions = sessions
        self._throttle = throttle
        self._page = _PAGE.read_text("utf-8")

    def is_signed_in(self, request: Request) -> bool:
        """Whether this request may go on.

        Raises:
            NotSignedIn: HTTP Basic with a wrong password.
            TooManyTries: HTTP Basic, sooner than the address may try again.
        """
        cookie = request.cookies.get(self._sessions.cookie)
        if cookie and self._sessions.is_open(cookie):
            return True
        basic = _basic(request.headers.get("authorization", ""))
        if basic is None:
            return False
        self._check(basic[1], _address(request))
        return True

    @staticmethod
    def program_name(request: Request) -> str | None:
        """The user name of HTTP Basic: programs keep no cookies, so their jobs belong to it."""
        basic = _basic(request.headers.get("authorization", ""))
        return None if basic is None else basic[0].decode("utf-8", "replace")

    def _check(self, given: bytes, address: str) -> None:
        wait_s = self._throttle.wait_s(address)
        if wait_s > 0:
            raise TooManyTries("Too many tries.", f"Next try in {_whole_seconds(wait_s)} s.")
        if not hmac.compare_digest(hashlib.sha256(given).digest(), self._digest):
            wait_s = self._throttle.failed(address)
            raise NotSignedIn("Wrong password.", f"Next try in {_whole_seconds(wait_s)} s.")
        self._throttle.passed(address)

    async def answer(self, request: Request) -> Response:
        """GET shows the form; POST takes the password and leads to the page."""
        if request.method != "POST":
            return self._form("", 200)
        form = (await request.body())[:MAX_FORM_BYTES]
        try:
            given = parse_qs(form.decode("utf-8", "replace"), max_num_fields=10).get("password", [""])[0]
        except ValueError:
            given = ""
        try:
            self._check(given.encode("utf-8", "replace"), _address(request))
        except TooManyTries as error:
            return self._form(f"{error.message} {error.hint}", 429, self.wait_header(request))
        except NotSignedIn as error:
            return self._form(f"{error.message} {error.hint}", 401)
        return RedirectResponse("/", 303, {"Set-Cookie": self._sessions.header()})

    def wait_header(self, request: Request) -> dict[str, str]:
        """Retry-After for the address of a request."""
        return {"Retry-After": _whole_seconds(self._throttle.wait_s(_address(request)))}

    def _form(self, message: str, status: int, headers: dict[str, str] | None = None) -> Response:
        nonce = secrets.token_urlsafe(16)
        html = self._page.replace("{{nonce}}", nonce).replace("{{message}}", escape(message))
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(
            html, status, {"Content-Security-Policy": policy, "Cache-Control": "no-store", **(headers or {})}
        )


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _whole_seconds(seconds: float) -> str:
    return str(max(1, int(seconds + 0.999)))


def _basic(header: str) -> tuple[bytes, bytes] | None:
    """User name and password of HTTP Basic; None when the header is of another scheme."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(value.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b"", b""
    return name, password
