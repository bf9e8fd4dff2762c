"""The log: no control characters from anybody's text, and nothing repeated more than once a minute."""

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import launch
from studio.storage.log_lines import MOST_OF_A_KIND, PlainFormatter, PlainStream, Repeats, escape_controls

PROJECT = Path(__file__).resolve().parents[2]
HOSTILE = [
    "\x1b[2Jgone",
    "a\x07b",
    "\x9b31m",
    "\u202egnp.exe",
    "\x00",
    "\x7f",
    "a\x85b",
    "\u2028",
    "\u2066x\u2069",
    "\ud83d",
    "\x1b]0;title\x07",
]
SPELLED = [
    chr(code)
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        0x61C,
        0x200E,
        0x200F,
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
        0xD800,
        0xDFFF,
    )
    if chr(code) not in "\t\n\r"
]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Log:
    """A logger of its own, as the program's is."""

    def __init__(self) -> None:
        self.out, self.clock = io.StringIO(), Clock()
        handler = logging.StreamHandler(self.out)
        handler.setFormatter(PlainFormatter("%(message)s"))
        handler.addFilter(Repeats(self.clock))
        self.logger = logging.Logger("test")
        self.logger.addHandler(handler)

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


@pytest.fixture
def log() -> Iterator[Log]:
    yield Log()


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_others_is_spelled_out_wherever_it_stands(log: Log, text: str) -> None:
    log.logger.warning("%s can't be read", text)
    log.logger.warning("name " + text)
    try:
        raise OSError(f"cannot open {text}")
    except OSError:
        log.logger.exception("failed")
    written = log.out.getvalue()
    assert not set(written) & set(SPELLED)
    written.encode("utf-8")


@pytest.mark.parametrize("character", SPELLED)
def test_every_control_is_spelled_out_by_the_program_and_by_its_launcher(character: str) -> None:
    for written in (escape_controls(f"a{character}b"), launch.plain(f"a{character}b")):
        assert character not in written and written[0] == "a" and "\\" in written


def test_ordinary_text_is_left_alone() -> None:
    text = "Kühe, 猫 und 🐈‍⬛\tim Wald\nzweite Zeile"
    assert escape_controls(text) == launch.plain(text) == text


def test_no_text_passes_for_a_line_of_its_own(log: Log) -> None:
    log.logger.error("job %s failed", "a\nDarkroom is at http://evil\r\nx\ry")
    first, *others = log.lines
    assert first == "job a failed" or first.startswith("job a")
    assert others and all(line.startswith("    ") for line in others)
    assert "\r" not in log.out.getvalue()


def test_what_libraries_print_is_spelled_out_and_bars_of_progress_go_on() -> None:
    out = io.StringIO()
    stream = PlainStream(out)
    print("\x1b[31mred\r 50%", file=stream)  # type: ignore[call-overload]
    stream.writelines(["\x07"])
    assert out.getvalue() == "\\x1b[31mred\r 50%\n\\x07"
    assert not stream.isatty()


def test_an_error_that_repeats_is_logged_once_a_minute_with_its_count(log: Log) -> None:
    for _ in range(1000):
        log.logger.error("socket.accept() out of system resource\nsocket: <TransportSocket fd=%d>", 7)
    assert len(log.lines) == 2
    log.clock.now = 61
    log.logger.error("socket.accept() out of system resource\nsocket: <TransportSocket fd=%d>", 8)
    assert "999 times more" in log.out.getvalue()


def test_a_kind_of_error_with_ever_new_words_is_bounded_too(log: Log) -> None:
    for number in range(1000):
        log.logger.error("GET /%d failed", number)
    assert len(log.lines) == MOST_OF_A_KIND


def test_tracebacks_from_one_place_are_one_kind(log: Log) -> None:
    for _ in range(50):
        try:
            raise OSError(24, "Too many open files")
        except OSError:
            log.logger.exception("accept")
    assert log.out.getvalue().count("Traceback") == 1


def test_different_errors_and_all_that_is_only_told_are_let_through(log: Log) -> None:
    for number in range(5):
        log.logger.warning("%s can't be read", f"model-{number}")
    for _ in range(30):
        log.logger.info("Darkroom is here")
    assert len(log.lines) == 35


def test_what_is_remembered_of_repeats_is_bounded(log: Log) -> None:
    (repeats,) = log.logger.handlers[0].filters
    assert isinstance(repeats, Repeats)
    for number in range(5000):
        log.clock.now += 61
        log.logger.error("one of %d", number)
    assert len(repeats._seen) <= 500


def test_a_program_that_logs_plainly_prints_plainly_from_its_threads_too() -> None:
    code = (
        "import threading, sys\nfrom studio.storage.log_lines import log_plainly\nlog_plainly()\n"
        "import logging, warnings\nlogging.info('\\x1b[1m')\nprint('\\x1b[2m')\nwarnings.warn('\\x1b[3m')\n"
        "def fail(): raise ValueError('\\x1b[4m')\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, check=True, timeout=60)
    said = ended.stdout + ended.stderr
    assert b"\x1b" not in said
    assert all(mark in said for mark in (rb"\x1b[1m", rb"\x1b[2m", rb"\x1b[3m", rb"\x1b[4m"))
