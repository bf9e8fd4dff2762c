"""Identifies a browser: a random owner in a cookie that is signed with a secret of the data folder.

The secret is one file of the data folder (`studio/storage/secret_file.py`). The cookie's name carries a mark of the
secret, so that two Darkrooms on one host (cookies ignore ports) do not overwrite each other's owners.
"""

import hashlib
import hmac
import re
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable

OWNER_AGE_S = 400 * 24 * 3600  # the most that browsers keep
SESSION_AGE_S = 30 * 24 * 3600
_OWNER = re.compile(r"[0-9a-f]{32}")
_SESSION = re.compile(r"([0-9]{1,12})\.([0-9a-f]{32})")


class Signer:
    """Signs short texts for one purpose; texts signed for another don't pass."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._key = hmac.digest(secret, purpose.encode(), "sha256")

    def sign(self, text: str) -> str:
        """The text with its signature behind a point."""
        return f"{text}.{self._signature(text)}"

    def check(self, signed: str) -> str | None:
        """The text if its signature is valid, else None."""
        text, _, signature = signed.rpartition(".")
        given = signature.encode("utf-8", "replace")
        return text if text and hmac.compare_digest(given, self._signature(text).encode()) else None

    def _signature(self, text: str) -> str:
        digest = hmac.digest(self._key, text.encode("utf-8", "replace"), hashlib.sha256)
        return urlsafe_b64encode(digest).rstrip(b"=").decode()


class CookieStyle:
    """The attributes of cookies: on a Space the page is in a frame of another site, over TLS."""

    def __init__(self, *, in_frame: bool) -> None:
        self._rules = "SameSite=None; Secure; Partitioned" if in_frame else "SameSite=Lax"

    def header(self, name: str, value: str, age_s: int) -> str:
        """The value of a Set-Cookie header."""
        return f"{name}={value}; Max-Age={age_s}; Path=/; HttpOnly; {self._rules}"


class Owners:
    """Makes and recognises owners.

    Args:
        secret: Of this data folder.
        style: How the cookie travels.
    """

    def __init__(self, secret: bytes, style: CookieStyle) -> None:
        self._signer = Signer(secret, "owner")
        self._program_key = hmac.digest(secret, b"program", "sha256")
        self._style = style
        self.cookie = f"darkroom_owner_{mark_of(secret)}"

    def new(self) -> str:
        """A new owner: 32 random hexadecimal digits."""
        return secrets.token_hex(16)

    def of_program(self, name: str) -> str:
        """The owner of the programs that call themselves so; the same at every call and start."""
        return hmac.digest(self._program_key, name.encode("utf-8", "replace"), "sha256").hex()[:32]

    def read(self, cookie: str) -> str | None:
        """The owner in a cookie's value; None when it was not signed here."""
        owner = self._signer.check(cookie)
        return owner if owner is not None and _OWNER.fullmatch(owner) else None

    def header(self, owner: str) -> str:
        """The Set-Cookie header that makes a browser this owner."""
        return self._style.header(self.cookie, self._signer.sign(owner), OWNER_AGE_S)


class Sessions:
    """Remembers in a signed cookie, until a date, that someone gave the password.

    A new password ends all sessions, since it is part of the key.
    """

    def __init__(
        self, secret: bytes, password: str, style: CookieStyle, clock: Callable[[], float] = time.time
    ) -> None:
        self._signer = Signer(secret, "session\0" + password)
        self._style = style
        self._clock = clock
        self.cookie = f"darkroom_session_{mark_of(secret)}"

    def header(self) -> str:
        """The Set-Cookie header of a new session."""
        text = f"{int(self._clock()) + SESSION_AGE_S}.{secrets.token_hex(16)}"
        return self._style.header(self.cookie, self._signer.sign(text), SESSION_AGE_S)

    def is_open(self, cookie: str) -> bool:
        """Whether a cookie's value is a session that has not ended."""
        match = _SESSION.fullmatch(self._signer.check(cookie) or "")
        return match is not None and int(match[1]) > self._clock()


def mark_of(secret: bytes) -> str:
    """Eight digits that tell one data folder's cookies from another's and say nothing of the secret."""
    return hmac.digest(secret, b"mark", "sha256").hex()[:8]
