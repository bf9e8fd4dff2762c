"""Which of gradio's routes exist for a client: those our page uses, and no other.

Gradio brings uploads, downloads, a proxy, direct calls, recordings, monitoring and an editor; all of them
answer here as if they were not there. What is let through is checked before gradio sees it. The routes of
our own (`/api/v1`, `/page`, `/login`) are not judged here.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Container
from typing import Any
from urllib.parse import parse_qs

from contract.errors import NotAllowed, NotFound, RequestError

OWN_PREFIXES = ("/api/v1/", "/page/")
MAX_DEPTH = 32
MOST_SESSIONS = 10_000
MOST_EVENTS = 10_000
_ALLOWED = {
    "GET": re.compile(
        r"/|/config/?|/theme\.css|/manifest\.json|/favicon\.ico|/robots\.txt"
        r"|/(static|assets)/[\w./@~+-]{1,200}"
        r"|/gradio_api/(info/?|app_id/?|startup-events|queue/data|heartbeat/[\w-]{1,64})"
    ),
    "POST": re.compile(r"/gradio_api/(queue/join|cancel|reset/?)"),
}
_FETCHES_OR_READS = re.compile(r"(?i)/file[=/]|/proxy=|/stream/|^/monitoring|/upload")
_HEARTBEAT, _MESSAGES = "/gradio_api/heartbeat/", "/gradio_api/queue/data"
_SESSION = re.compile(r"[\w-]{1,64}")


class GradioDoor:
    """Judges requests for gradio; remembers whose each of its sessions is.

    Args:
        events: Says which event numbers the page has; None while that is not known.
    """

    def __init__(self, events: Callable[[], Container[int] | None] = lambda: None) -> None:
        self._events = events
        self._sessions: OrderedDict[str, str] = OrderedDict()

    @staticmethod
    def is_ours(path: str) -> bool:
        """Whether a path is one of our own routes."""
        return path.startswith(OWN_PREFIXES)

    @staticmethod
    def is_stream(path: str) -> bool:
        """Whether a path is one of gradio's endless answers, which it takes for a page that is open."""
        return path == _MESSAGES or path.startswith(_HEARTBEAT)

    @staticmethod
    def takes_body(method: str, path: str) -> bool:
        """Whether the body has to be judged as well."""
        return method == "POST" and not GradioDoor.is_ours(path)

    @staticmethod
    def check_path(method: str, path: str) -> None:
        """Refuse what our page does not use.

        Raises:
            NotAllowed: it would read, fetch or keep a file.
            NotFound: any other route of gradio.
        """
        if _FETCHES_OR_READS.search(path):
            raise NotAllowed("Files and addresses are not served here.", "Open the picture in the gallery.")
        rule = _ALLOWED.get("GET" if method == "HEAD" else method)
        if rule is None or not rule.fullmatch(path):
            raise NotFound("There is nothing at this address.", "Correct the address, or reload the page.")

    def check_session(self, path: str, query: bytes, owner: str) -> None:
        """Events of a session are for its owner only.

        Raises:
            NotFound: the session is another's.
        """
        if path.startswith(_HEARTBEAT):  # when it ends, gradio ends what its session runs
            self._claim(path.removeprefix(_HEARTBEAT), owner)
        elif path == _MESSAGES:
            try:
                fields = parse_qs(query.decode("latin-1"), max_num_fields=20)
            except ValueError:
                fields = {}
            self._claim(fields.get("session_hash", [""])[0], owner)

    def check_body(self, body: bytes, owner: str) -> None:
        """The JSON of a queue request: an object of sane depth, its session the caller's own.

        Raises:
            RequestError: it is not such JSON; NotFound: the session is another's.
        """
        try:
            data: Any = json.loads(body.decode("utf-8"))
            body_is_whole = _depth(data) <= MAX_DEPTH
            json.dumps(data, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError):
            raise RequestError("The request is not UTF-8 JSON.", "Reload the page.") from None
        if not isinstance(data, dict) or not body_is_whole:
            raise RequestError("The request is not a plain JSON object.", "Reload the page.")
        if "fn_index" in data:
            self._check_event(data["fn_index"])
        if "session_hash" in data:
            self._claim(data["session_hash"], owner)

    def _check_event(self, number: object) -> None:
        known = self._events()
        if (
            isinstance(number, bool)
            or not isinstance(number, int)
            or not 0 <= number < MOST_EVENTS
            or (known is not None and number not in known)
        ):
            raise RequestError("The request names no event of the page.", "Reload the page.")

    def _claim(self, session: object, owner: str) -> None:
        if not isinstance(session, str) or not _SESSION.fullmatch(session):
            raise RequestError("The request names no session.", "Reload the page.")
        if self._sessions.setdefault(session, owner) != owner:
            raise NotFound("There is no such session.", "Reload the page.")
        self._sessions.move_to_end(session)
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0
