"""The tree of failures: a stable code each, one JSON shape."""

import re
from pathlib import Path

from contract import errors

PROJECT = Path(__file__).resolve().parents[2]


def kinds(base: type[errors.StudioError]) -> list[type[errors.StudioError]]:
    return [
        base,
        *(kind for child in base.__subclasses__() if child.__module__ == "contract.errors" for kind in kinds(child)),
    ]


def test_codes_are_unique_and_stable() -> None:
    codes = [kind.default_code for kind in kinds(errors.StudioError)]
    assert len(codes) == len(set(codes)) and all(code.islower() for code in codes)


def test_an_error_is_code_message_and_hint() -> None:
    error = errors.QueueFull("Full.", "Wait.", retry_after_s=7)
    assert error.as_dict() == {"code": "queue_full", "message": "Full.", "hint": "Wait."}
    assert error.retry_after_s == 7 and str(error) == "Full."
    assert errors.InvalidRecipe("x", code="invalid_steps").code == "invalid_steps"


def test_a_cancel_is_no_failure() -> None:
    assert not issubclass(errors.Cancelled, errors.StudioError)


def test_every_code_of_a_failed_save_is_in_the_table() -> None:
    files = [path for package in ("studio", "api") for path in (PROJECT / package).rglob("*.py")]
    written = {code for path in files for code in re.findall(r'code="(storage_\w+)"', path.read_text("utf-8"))}
    assert len(written) >= 3 and written | {errors.StorageFull.default_code} <= errors.StorageFull.codes
