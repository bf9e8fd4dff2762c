"""Calls what belongs to an extension: in a thread, for so long and no longer, whatever it raises.

KeyboardInterrupt and SystemExit end nothing then, and a call that hangs holds nobody up: its thread is left behind.
What can't be held back is what ends the process at once (os._exit) or makes it crash.
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
    """Call, and wait for at most so long; the working folder is the same afterwards.

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
        logger.warning("%s left the working folder elsewhere; it is put back", what)
        try:
            os.chdir(folder)
        except OSError as problem:
            logger.warning("the working folder could not be put back: %s", problem.strerror)
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
