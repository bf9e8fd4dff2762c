"""Sends an image file: its type by content, never by name; private cache, 304, safe file name."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from contract.errors import NotFound

_FOREVER = "private, max-age=31536000, immutable"
_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "image/png", "png"),
    (b"\xff\xd8\xff", "image/jpeg", "jpg"),
    (b"RIFF", "image/webp", "webp"),
)


def send_picture(request: Request, path: Path, root: Path, tag: str, *, name: str | None = None) -> Response:
    """The file's bytes.

    Args:
        root: The folder that the file must be in, symbolic links followed.
        tag: Identifies this content forever; becomes the ETag.
        name: File name without suffix, of a download.

    Raises:
        NotFound: the file is gone, outside the root, or no image.
    """
    headers = {"ETag": f'"{tag}"', "Cache-Control": _FOREVER}
    if headers["ETag"] in request.headers.get("if-none-match", "") and path.is_file():
        return Response(status_code=304, headers=headers)
    gone = NotFound("The picture's file is gone or unreadable.", "Its recipe is still known.")
    try:
        place = path.resolve(strict=True)
        if not place.is_relative_to(root.resolve()) or not place.is_file():
            raise gone
        data = place.read_bytes()
    except (OSError, ValueError):
        raise gone from None
    for start, kind, suffix in _KINDS:
        if data.startswith(start) and (suffix != "webp" or data[8:12] == b"WEBP"):
            if name is not None:
                headers["Content-Disposition"] = f'attachment; filename="{name}.{suffix}"'
            return Response(data, media_type=kind, headers=headers)
    raise gone
