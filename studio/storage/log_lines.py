"""Formats the log: no control characters, and no message more than once a minute.

File names, prompts, headers and user names are untrusted: a terminal would obey the escapes in them.
`PlainStream` does the same for what libraries print past the log.
"""

import logging
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TextIO, cast

# C0 but tab, newline and carriage return, DEL, C1; the marks that turn writing around or end a line; lone surrogates.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_ADDRESS = re.compile(r"0x[0-9a-f]+|\bfd=\d+")
REPEAT_S = 60.0
MOST_OF_A_KIND = 20
_MOST_KEYS = 500


def escape_controls(text: str) -> str:
    """The text with every control character spelled out, as \\x1b; tabs and newlines stay."""
    return _CONTROL.sub(lambda found: _spelled(found[0]), text)


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: str) -> str:
    """As `escape_controls`, also carriage returns, with further lines indented: no text can imitate a log line."""
    return escape_controls(text.replace("\r\n", "\n").replace("\r", "\\x0d")).replace("\n", "\n    ")


class PlainFormatter(logging.Formatter):
    """A formatter without control characters in its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return escape_controls(super().formatException(ei)).replace("\r", "\\x0d")

    def formatStack(self, stack_info: str) -> str:
        return escape_controls(super().formatStack(stack_info)).replace("\r", "\\x0d")


class Repeats(logging.Filter):
    """Lets a warning or an error through once a minute, and of one kind at most 20 of different words.

    The first that comes after the minute says how many were left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, every_s: float = REPEAT_S) -> None:
        super().__init__()
        self._clock = clock
        self._every_s = every_s
        self._seen: OrderedDict[object, tuple[float, int]] = OrderedDict()  # when last let through, how many since

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        try:
            words = _ADDRESS.sub("", record.getMessage())[:500]
        except (TypeError, ValueError):  # arguments that don't fit: logging itself reports it
            return True
        error, _, trace = record.exc_info or (None, None, None)
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else ()  # the traceback's innermost line
        kind = (record.name, record.levelno, _ADDRESS.sub("", str(record.msg))[:500], error, place)
        left_out = self._let_through((*kind, words), 1)
        if left_out is None or self._let_through(kind, MOST_OF_A_KIND) is None:
            return False
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} times more since it was last logged)", ()
        return True

    def _let_through(self, key: object, most: int) -> int | None:
        """How many were left out since the last minute began; None if this one is left out too."""
        now = self._clock()
        began, count = self._seen.pop(key, (now, 0))
        left_out = 0
        if now - began >= self._every_s:
            began, count, left_out = now, 0, max(0, count - most)
        self._seen[key] = (began, count + 1)
        if len(self._seen) > _MOST_KEYS:
            self._seen.popitem(last=False)
        return left_out if count < most else None


class PlainStream:
    """A text stream that spells control characters out; carriage returns stay, for bars of progress."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As of any text stream."""
        self._stream.write(escape_controls(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """As of any text stream."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def log_plainly(level: int = logging.INFO) -> None:
    """Have this process log plainly to its error stream, and print plainly.

    For programs only: it replaces sys.stdout and sys.stderr.
    """
    sys.stdout, sys.stderr = cast(TextIO, PlainStream(sys.stdout)), cast(TextIO, PlainStream(sys.stderr))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(message)s"))
    handler.addFilter(Repeats())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
