"""Calls an extension's code in a thread, with a time limit, and contains whatever it raises.

KeyboardInterrupt and SystemExit do not end the program, and a call that hangs blocks nothing: its thread is abandoned.
os._exit and crashes can't be contained.
"""

import logging
import os
import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
logger = logging.getLogger(__name__)


class CallFailed(Exception):
    """An extension's call failed; the log has the details.

    Attributes:
        reason: The type of the error, or that there was no answer.
        error: What was raised; None where there was no answer.
    """

    def __init__(self, reason: str, error: BaseException | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


def call_within(limit_s: float, call: Callable[[], Value], what: str) -> Value:
    """Call, and wait for at most `limit_s`; the working directory is restored afterwards.

    Args:
        what: For the log: "extension grain in finish_image".
    Raises:
        CallFailed: it raised, or has not returned.
    """
    values: list[Value] = []
    errors: list[BaseException] = []
    folder = _working_folder()

    def run() -> None:
        try:
            values.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=what, daemon=True)
    try:
        thread.start()
        thread.join(limit_s)
    except RuntimeError as error:  # no more threads
        errors.append(error)
    if folder and _working_folder() != folder:
        logger.warning("%s changed the working directory; it is restored", what)
        try:
            os.chdir(folder)
        except OSError as problem:
            logger.warning("the working directory could not be restored: %s", problem.strerror)
    if values:
        return values[0]
    if errors:
        raise CallFailed(type(errors[0]).__name__, errors[0])
    raise CallFailed(f"no answer within {limit_s:g} s")


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""
