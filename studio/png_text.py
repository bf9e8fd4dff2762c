"""Reads and bounds the text chunks of a PNG without decoding a pixel.

Only chunks before the picture data count, as we write them. Nothing is inflated beyond a limit.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import IO

from contract.errors import InvalidInput

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES = 8_000_000
MAX_CHUNKS = 4096
_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")


def read_text(file: IO[bytes], *, max_bytes: int = MAX_TEXT_BYTES) -> dict[str, str]:
    """Keyword -> text of the chunks before the picture data; damaged chunks are left out.

    Raises:
        InvalidInput: it is no PNG, or its texts are larger than `max_bytes` in all.
    """
    if file.read(8) != SIGNATURE:
        raise InvalidInput("The file is not a PNG.", "Use the picture as it was saved.")
    texts: dict[str, str] = {}
    left = max_bytes
    for kind, data in _chunks(file, max_bytes):
        pair = _decode(kind, data, left)
        if pair:
            left -= len(pair[1])
            if left < 0:
                raise _too_much(max_bytes)
            texts.setdefault(*pair)
    return texts


def _chunks(file: IO[bytes], max_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            return
        if kind not in _TEXT_KINDS:
            file.seek(length + 4, 1)
            continue
        if length > max_bytes:
            raise _too_much(max_bytes)
        data = file.read(length)
        check = file.read(4)
        if len(check) == 4 and struct.unpack(">I", check)[0] == zlib.crc32(kind + data):
            yield kind, data


def _decode(kind: bytes, data: bytes, left: int) -> tuple[str, str] | None:
    keyword, _, rest = data.partition(b"\0")
    name = keyword.decode("latin-1")
    try:
        if kind == b"tEXt":
            return name, rest.decode("latin-1")
        if kind == b"zTXt":
            return name, _inflate(rest[1:], left).decode("latin-1")
        flag, rest = rest[:1], rest[2:]
        _, _, rest = rest.partition(b"\0")
        _, _, text = rest.partition(b"\0")
        return name, (_inflate(text, left) if flag == b"\1" else text).decode("utf-8")
    except (zlib.error, UnicodeDecodeError):
        return None


def _inflate(data: bytes, left: int) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, left + 1)
    if len(text) > left:
        raise _too_much(left)
    return text


def _too_much(max_bytes: int) -> InvalidInput:
    return InvalidInput(f"The picture carries more than {max_bytes // 1_000_000} MB of text.",
                        "Save it again without its metadata.", code="invalid_input")
