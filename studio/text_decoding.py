"""Text out of bytes whose encoding is not told, or told wrongly: the reading that makes sense is taken.

Pictures are written by many programs: UTF-8 where Latin-1 belongs, UTF-16 of either order whatever the header says.
Every candidate is decoded and judged by its characters; where none makes sense there is no text, never garbage.
"""

import re
import unicodedata
from collections.abc import Iterator

MAX_BYTES = 4_000_000
_JUDGED = 4000  # characters at the beginning, a quarter of that at the end
_LEAST_SENSE = 0.65
_MIXED = 0.3
_PLAIN = 0.9
_HEAD_BYTES = 8
_NAMED_HEAD = re.compile(rb"(?:ASCII|UNICODE|UTF-?8|UTF-?16(?:LE|BE)?|JIS|UNDEFINED)[ \0]*", re.IGNORECASE)
_PADDED_HEAD = re.compile(rb"[A-Za-z][A-Za-z0-9_-]*\0+|\0+")
_KNOWN_WORDS = re.compile(r"Steps: \d|Negative prompt:|\"\w*prompt\"|^\s*\{\s*\"")
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_OF_ONE_PLACE = ("cp1252", "gb18030", "cp932", "euc_kr")  # only where it is no UTF-8
_JAPANESE = ("iso2022_jp", "cp932", "euc_jp")


def decode_text(raw: bytes, *, likely: str = "utf-8", others: tuple[str, ...] = ()) -> str:
    """The text that some bytes most likely are; "" where no decoding makes sense.

    Args:
        likely: The encoding to take where two make equal sense.
        others: More encodings to try.
    """
    raw = raw[:MAX_BYTES]
    if not raw.strip(b"\0 \t\r\n"):
        return ""
    if (end := raw.find(b"\0")) >= _HEAD_BYTES and sense(start := raw[:end].decode("utf-8", "replace")) > _PLAIN:
        return start  # a string as C ends it, and whatever lay behind it
    best, found = _LEAST_SENSE, ""
    for encoding in _encodings(raw, likely, others):
        try:
            text = _decoded(raw, encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        if (score := sense(text) - _strangeness(text, encoding)) > best:
            best, found = score, text
    return found.partition("\0")[0]


def decode_comment(raw: bytes, *, likely: str = "utf-16-be") -> str:
    """The text of an EXIF UserComment: eight bytes that name the encoding, rightly or not, or none at all.

    Source: EXIF 2.32, 4.6.5 (UserComment); what programs write instead.
    """
    head, body = raw[:_HEAD_BYTES], raw[_HEAD_BYTES:]
    if _NAMED_HEAD.fullmatch(head) or _PADDED_HEAD.fullmatch(head):
        is_japanese = head.startswith(b"JIS")
        return decode_text(body, likely=likely if head.upper().startswith(b"UNICODE") else "utf-8",
                           others=_JAPANESE if is_japanese else ())
    whole = decode_text(raw, likely=likely)
    if not any(byte < 32 and byte not in b"\t\n\r" for byte in head):
        return whole
    # Zeros in front are of UTF-16 without a head, or a head that nobody knows.
    return whole if whole and "\ufffd" not in whole and not _is_odd(whole[:_HEAD_BYTES]) else decode_text(body, likely=likely)


def _is_odd(text: str) -> bool:
    return any(_weight(character) < 0.5 for character in text)


def sense(text: str) -> float:
    """How much a text looks like one somebody wrote: 1 for plain words, more with the field's, far below for noise."""
    judged = text[:_JUDGED] + text[_JUDGED:][-_JUDGED // 4:]
    if not judged.strip():
        return 0.0
    weights = [_weight(character) for character in judged]
    bonus = 0.3 if _KNOWN_WORDS.search(text[:_JUDGED] + "\n" + text[-_JUDGED:]) else 0.0
    return sum(weights) / len(weights) + bonus - 0.02 * sum(weight < 0 for weight in weights[:64])


def _encodings(raw: bytes, likely: str, others: tuple[str, ...]) -> Iterator[str]:
    """Candidates, the likeliest first: of two that make equal sense the first is taken."""
    marked = [encoding for mark, encoding in _MARKS if raw.startswith(mark)]
    names = [*marked, likely, "utf-8", "utf-16-le", "utf-16-be", *others]
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        names += _OF_ONE_PLACE
    yield from dict.fromkeys(names)


def _decoded(raw: bytes, encoding: str) -> str:
    if encoding.startswith("utf-16"):
        raw = raw[:len(raw) // 2 * 2]
    return raw.decode(encoding).strip("\ufeff\0")


def _strangeness(text: str, encoding: str) -> float:
    """What bytes that are no text show when they are read as one: scripts that nobody mixes, hardly a plain letter."""
    codes = [ord(character) for character in text[:_JUDGED]]
    if encoding == "cp1252":
        return _MIXED if sum(code > 127 for code in codes) > 0.4 * len(codes) else 0.0
    has_hangul = any(0xAC00 <= code <= 0xD7A3 for code in codes)
    has_others = any(0x3040 <= code <= 0x9FFF for code in codes)
    return _MIXED if has_hangul and has_others else 0.0


def _weight(character: str) -> float:
    """What one character says for the text: letters of living scripts much, what is never written less than nothing."""
    code = ord(character)
    if 32 <= code < 127 or character in "\n\r\t":
        return 1.0
    category = unicodedata.category(character)
    if category in ("Cc", "Cn", "Co", "Cs") or character == "\ufffd":
        return -3.0
    if category == "Cf":
        return 0.8 if code == 0x200D else 0.0
    if category[0] == "L":
        return _letter_weight(code)
    if 0x3000 <= code <= 0x303F or 0xFF00 <= code <= 0xFFEF or 0x1F000 <= code <= 0x1FAFF:
        return 0.9
    if 0x2000 <= code <= 0x206F or code == 0xFE0F:
        return 0.8
    return 0.5 if category[0] == "M" else 0.3


def _letter_weight(code: int) -> float:
    if code < 0x250:
        return 0.95
    if 0x3040 <= code <= 0x30FF:
        return 0.97
    # Plain letters read in the wrong byte order are ideographs whose lower byte is zero.
    if 0x4E00 <= code <= 0x9FFF:
        return 0.9 if code & 0xFF else 0.0
    is_living = code < 0xE80 or 0xAC00 <= code <= 0xD7A3 or 0x1E00 <= code < 0x2000 or 0xFF00 <= code <= 0xFFEF
    return 0.9 if is_living else 0.3
