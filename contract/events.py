"""The events of a job, and the rules that a follower can rely on.

The rules (tests/contract/test_events.py, tests/studio/test_event_log.py): first Queued; per attempt
(image, index) of Step rises; exactly one of Done, Failed, Cancelled, Interrupted ends the job, last;
a late follower gets the newest progress, every Saved, Prepared and Notice, and the end; a slow one may miss Steps,
and Loadings of the same thing that a newer one replaced, nothing else.
"""

import base64
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from contract.recipe import Frozen
from contract.records import ImageRecord, StoredUpload


class _Event(Frozen):
    job_id: str
    attempt: int = 1
    at: float  # seconds since the epoch


class Queued(_Event):
    """Waiting; `position` jobs run or wait before it (0: next). Sent again when it changes."""

    type: Literal["queued"] = "queued"
    position: int
    wait_s: float | None = None  # predicted seconds until it starts


class Loading(_Event):
    """Weights are being read, fetched or written. The fraction is None when it isn't known, so are the others."""

    type: Literal["loading"] = "loading"
    what: str
    fraction: float | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None
    left_s: float | None = None


class Step(_Event):
    """Step `index` of `total` (1-based) of picture `image` (0-based) is done.

    index == total means that only decoding and saving are left. left_s: predicted for the whole job,
    None until three steps were measured. preview: a small JPEG of the clean estimate.
    """

    type: Literal["step"] = "step"
    image: int
    index: int
    total: int
    left_s: float | None = None
    preview: bytes | None = None

    @property
    def preview_uri(self) -> str | None:
        """The preview as a data URI."""
        if not self.preview:
            return None
        return f"data:image/jpeg;base64,{base64.b64encode(self.preview).decode()}"


class Saved(_Event):
    """Picture `image` (0-based) of the job is in the gallery."""

    type: Literal["saved"] = "saved"
    image: int
    record: ImageRecord


class Prepared(_Event):
    """A control map is made, and kept with the uploads: any control may name it."""

    type: Literal["prepared"] = "prepared"
    upload: StoredUpload


class Notice(_Event):
    """A message that doesn't stop the job."""

    type: Literal["notice"] = "notice"
    code: str
    message: str


class Done(_Event):
    type: Literal["done"] = "done"
    seconds: float


class Failed(_Event):
    """field, fix: as in `contract.errors.StudioError`, for live followers only; they are not stored."""

    type: Literal["failed"] = "failed"
    code: str
    message: str
    hint: str = ""
    field: str = ""
    fix: Mapping[str, int | float | str] | None = None


class Cancelled(_Event):
    type: Literal["cancelled"] = "cancelled"


class Interrupted(_Event):
    """The program ended under the job, twice."""

    type: Literal["interrupted"] = "interrupted"


JobEvent = Queued | Loading | Step | Saved | Prepared | Notice | Done | Failed | Cancelled | Interrupted
ENDINGS = (Done, Failed, Cancelled, Interrupted)
JOB_EVENT: TypeAdapter[JobEvent] = TypeAdapter(Annotated[JobEvent, Field(discriminator="type")])


def is_ending(event: JobEvent) -> bool:
    """Whether the event is the last of its job."""
    return isinstance(event, ENDINGS)
