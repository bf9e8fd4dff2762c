"""Every error that people can get, as one tree.

StudioError            a stable code, a sentence with the value and the cause, a hint, the field, a fix
├── RequestError       the caller can fix it; nothing was started
│   ├── InvalidRecipe  a field is out of range or of the wrong type (code: invalid_<field>)
│   ├── InvalidInput   a picture or body that can't be used
│   ├── NotFound       no such job, picture or model, or not the caller's
│   ├── NotAllowed     the middleware or an owner check refused it
│   ├── TooLarge       more bytes or pixels than are accepted
│   └── QueueFull      too many jobs wait; carries retry_after_s
└── JobError           the work itself failed
    ├── ModelProblem   a model is damaged, gone, or of a kind that can't be used
    ├── OutOfMemory    the device or the machine ran out of memory
    ├── NoValidPicture the computation gave NaN or infinity
    ├── WorkerDied     the engine process ended under the job
    ├── WorkerHung     the engine was silent for too long
    ├── StorageFull    an image could not be saved
    └── HubUnavailable the hub of models can't be reached, or is busy
Cancelled              apart: it is no failure
"""

from collections.abc import Mapping
from typing import Any, ClassVar

FieldValues = Mapping[str, int | float | str]


class StudioError(Exception):
    """An error with sentences for people.

    Args:
        message: One sentence that names the thing and the cause.
        hint: What to do about it; may be empty.
        code: Stable identifier for programs; defaults to the class's own.
        field: The field to change, as a dotted path of the request with its indexes: "controls.1.image". Programs
            use this, never the sentences. Empty: no single field.
        fix: Accepted values of fields, by the same paths: {"width": 1024, "height": 1024}.
    """

    default_code: ClassVar[str] = "studio_error"

    def __init__(
        self, message: str, hint: str = "", *, code: str | None = None, field: str = "", fix: FieldValues | None = None
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message
        self.hint = hint
        self.field = field
        self.fix: FieldValues = dict(fix or {})

    def as_dict(self) -> dict[str, Any]:
        """The one JSON shape of every error; field and fix are left out where there are none."""
        facts: dict[str, Any] = {"code": self.code, "message": self.message, "hint": self.hint}
        if self.field:
            facts["field"] = self.field
        if self.fix:
            facts["fix"] = dict(self.fix)
        return facts


def code_of(field: str) -> str:
    """The code of a refused field: "invalid_controls_image" for "controls.1.image"."""
    names = [name for name in field.split(".") if not name.isdigit()]
    return "_".join(("invalid", *names))


class RequestError(StudioError):
    """The caller can fix it; nothing was started. One that names a field has its code, invalid_<field>."""

    default_code = "bad_request"

    def __init__(
        self, message: str, hint: str = "", *, code: str | None = None, field: str = "", fix: FieldValues | None = None
    ) -> None:
        if not code and field:
            code = code_of(field)
        super().__init__(message, hint, code=code, field=field, fix=fix)


class InvalidRecipe(RequestError):
    """A field of a draft is out of range, of the wrong type or unknown; code is invalid_<field>."""

    default_code = "invalid_recipe"


class InvalidInput(RequestError):
    """A picture or body that can't be used."""

    default_code = "invalid_input"


class NotFound(RequestError):
    """No such job, picture or model, or it belongs to someone else."""

    default_code = "not_found"


class NotAllowed(RequestError):
    """The middleware or an owner check refused it."""

    default_code = "not_allowed"


class TooLarge(RequestError):
    """More bytes or pixels than are accepted."""

    default_code = "too_large"


class QueueFull(RequestError):
    """Too many jobs wait already."""

    default_code = "queue_full"

    def __init__(self, message: str, hint: str = "", *, retry_after_s: int = 30) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


class JobError(StudioError):
    """The work itself failed."""

    default_code = "job_failed"


class ModelProblem(JobError):
    """A model is damaged, gone, or of a kind that can't be used."""

    default_code = "model_problem"


class OutOfMemory(JobError):
    """The device or the machine ran out of memory."""

    default_code = "out_of_memory"


class NoValidPicture(JobError):
    """The computation gave NaN or infinity; a black image must not count as a result."""

    default_code = "no_valid_picture"


class WorkerDied(JobError):
    """The engine process ended under the job."""

    default_code = "worker_died"


class WorkerHung(JobError):
    """The engine was silent for too long and was stopped."""

    default_code = "worker_hung"


class StorageFull(JobError):
    """An image could not be saved; it stays in memory for a retry.

    Attributes:
        codes: Every code that it may have. The row of a failed job keeps only the code, so that by these, and no
            others, it shows that saving failed.
    """

    default_code = "storage_full"
    codes: ClassVar[frozenset[str]] = frozenset(
        {
            "storage_full",
            "storage_refused",
            "storage_failed",
            "storage_not_listed",
            "storage_stopping",
            "storage_database",
            "storage_database_locked",
            "storage_database_read_only",
            "storage_database_damaged",
        }
    )


class HubUnavailable(JobError):
    """The hub of models can't be reached now, or asks to try again later."""

    default_code = "hub_unavailable"


class Cancelled(Exception):
    """The job was cancelled by its owner."""
