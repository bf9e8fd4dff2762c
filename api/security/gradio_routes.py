"""The routes of gradio that a client may use: only those that the page needs.

Gradio has uploads, downloads, a proxy, direct calls, recordings, monitoring and an editor; all of them
respond here as if they did not exist. Allowed requests are checked before gradio sees them. Darkroom's own routes
(`/api/v1`, `/page`, `/login`) are not checked here.
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


class GradioRoutes:
    """Checks requests for gradio, and remembers the owner of each of its sessions.

    Args:
        events: Returns the event numbers of the page; None while they are not known.
    """

    def __init__(self, events: Callable[[], Container[int] | None] = lambda: None) -> None:
        self._events = events
        self._sessions: OrderedDict[str, str] = OrderedDict()

    @staticmethod
    def is_own(path: str) -> bool:
        """Whether a path is one of Darkroom's own routes."""
        return path.startswith(OWN_PREFIXES)

    @staticmethod
    def is_stream(path: str) -> bool:
        """Whether a path is one of gradio's event streams, which stay open as long as a page."""
        return path == _MESSAGES or path.startswith(_HEARTBEAT)

    @staticmethod
    def takes_body(method: str, path: str) -> bool:
        """Whether the body has to be checked as well."""
        return method == "POST" and not GradioRoutes.is_own(path)

    @staticmethod
    def check_path(method: str, path: str) -> None:
        """Refuse routes that the page does not use.

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
        """Refuse the events of a session to anyone but its owner.

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
        """Check the JSON of a queue request: an object of sane depth, its session the caller's own.

        Raises:
            RequestError: it is not such JSON; NotFound: the session is another's.
        """
        try:
            data: Any = json.loads(body.decode("utf-8"))
            is_shallow = _depth(data) <= MAX_DEPTH
            json.dumps(data, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError):
            raise RequestError("The request is not UTF-8 JSON.", "Reload the page.") from None
        if not isinstance(data, dict) or not is_shallow:
            raise RequestError("The request is not a plain JSON object.", "Reload the page.")
        if "fn_index" in data:
            number, known = data["fn_index"], self._events()
            is_number = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < MOST_EVENTS
            if not is_number or (known is not None and number not in known):
                raise RequestError("The request names no event of the page.", "Reload the page.")
        if "session_hash" in data:
            self._claim(data["session_hash"], owner)

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
