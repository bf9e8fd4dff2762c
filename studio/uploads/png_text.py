"""Reads and bounds the text chunks of a PNG without decoding a pixel.

Darkroom writes them before the image data; other tools move them behind it, where they count as well. Nothing is
inflated beyond a limit. Other places of text are read in `metadata/image_texts.py`.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import IO

from contract.errors import InvalidInput
from studio.uploads.file_kinds import PNG_SIGNATURE
from studio.uploads.text_decoding import decode_text, undoubled

MAX_TEXT_BYTES = 8_000_000
MAX_CHUNKS = 4096  # of text
_MAX_ALL_CHUNKS = 200_000
EXIF_KEY = "\0eXIf"  # no keyword of a text: what the chunk of that name holds, byte for byte as Latin-1
_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")


def read_text(file: IO[bytes], *, max_bytes: int = MAX_TEXT_BYTES) -> dict[str, str]:
    """Keyword -> text of all chunks, with EXIF under `EXIF_KEY`; damaged chunks are left out.

    Of two with one keyword the first counts that is not empty.

    Raises:
        InvalidInput: it is no PNG, or its texts are larger than `max_bytes` in all.
    """
    if file.read(8) != PNG_SIGNATURE:
        raise InvalidInput("The file is not a PNG.", "Use the picture as it was saved.")
    texts: dict[str, str] = {}
    left = max_bytes
    for kind, data in _text_chunks(file, max_bytes):
        pair = _decode_chunk(kind, data, left)
        if pair:
            left -= len(pair[1])
            if left < 0:
                raise _too_much(max_bytes)
            texts[pair[0]] = texts.get(pair[0]) or pair[1]
    return texts


def _text_chunks(file: IO[bytes], max_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    found = 0
    for _ in range(_MAX_ALL_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND" or found == MAX_CHUNKS:
            return
        if kind not in _TEXT_KINDS and kind != b"eXIf":
            file.seek(length + 4, 1)
            continue
        found += 1
        if length > max_bytes:
            raise _too_much(max_bytes)
        data = file.read(length)
        check = file.read(4)
        if len(check) == 4 and struct.unpack(">I", check)[0] == zlib.crc32(kind + data):
            yield kind, data


def _decode_chunk(kind: bytes, data: bytes, left: int) -> tuple[str, str] | None:
    if kind == b"eXIf":
        return EXIF_KEY, data.decode("latin-1")
    keyword, _, rest = data.partition(b"\0")
    name = keyword.decode("latin-1")
    try:
        if kind == b"tEXt":
            return name, _decode_keyword_text(rest)
        if kind == b"zTXt":
            return name, _decode_keyword_text(_inflate(rest[1:], left))
        flag, rest = rest[:1], rest[2:]
        _, _, rest = rest.partition(b"\0")
        _, _, text = rest.partition(b"\0")
        return name, _decode_keyword_text(_inflate(text, left) if flag == b"\1" else text)
    except zlib.error:
        return None


def _decode_keyword_text(raw: bytes) -> str:
    """Decode UTF-8, which many programs write even where Latin-1 belongs; else whatever makes sense, else nothing."""
    try:
        return undoubled(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return decode_text(raw)


def _inflate(data: bytes, left: int) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, left + 1)
    if len(text) > left:
        raise _too_much(left)
    return text


def _too_much(max_bytes: int) -> InvalidInput:
    return InvalidInput(
        f"The picture carries more than {max_bytes // 1_000_000} MB of text.",
        "Save it again without its metadata.",
        code="invalid_input",
    )
