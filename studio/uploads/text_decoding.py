"""Decodes text whose encoding is not declared, or declared wrongly: the decoding that makes sense is taken.

Images are written by many programs: UTF-8 where Latin-1 belongs, UTF-16 of either order whatever the header says.
Every candidate is decoded and judged by its characters; where none makes sense there is no text, never garbage.
"""

import re
import unicodedata

MAX_BYTES = 4_000_000
_JUDGED = 4000  # characters at the beginning, a quarter of that at the end
_LEAST_SENSE = 0.65
_MIXED = 0.3
_PLAIN = 0.9
_HEAD_BYTES = 8
_NAMED_HEAD = re.compile(rb"(?:ASCII|UNICODE|UTF-?8|UTF-?16(?:LE|BE)?|JIS|UNDEFINED)[ \0]*", re.IGNORECASE)
_PADDED_HEAD = re.compile(rb"[A-Za-z][A-Za-z0-9_-]*\0+|\0+")
_CHARSET = re.compile(r"\s*charset=\"?(?:ascii|unicode|utf-?8|jis|undefined|invalidcharsetid)?\"?[ \0]*", re.IGNORECASE)
_FOREIGN_WORD = re.compile(r"[^\x00-\x7f]{3,}")  # of a language in Latin letters hardly a word has three in a row
_WHITE = b"\t\n\r\x0b\x0c"
_KNOWN_WORDS = re.compile(r"Steps: \d|Negative prompt:|\"\w*prompt\"|^\s*\{\s*\"")
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_OF_ONE_PLACE = ("cp1252", "cp1251", "koi8_r", "gb18030", "cp932", "euc_kr", "big5")  # only where it is no UTF-8
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
    if start := _text_before_zero(raw):
        return undoubled(start)
    # Candidates, the likeliest first: of two that make equal sense the first is taken.
    marked = [encoding for mark, encoding in _MARKS if raw.startswith(mark)]
    encodings = [*marked, likely, "utf-8", "utf-16-le", "utf-16-be", *others]
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        encodings += _OF_ONE_PLACE
    best, found = _LEAST_SENSE, ""
    for encoding in dict.fromkeys(encodings):
        whole = raw
        if encoding.startswith("utf-16"):
            whole = raw[: len(raw) // 2 * 2]
        try:
            text = undoubled(whole.decode(encoding).strip("\ufeff\0"))
        except (UnicodeDecodeError, LookupError):
            continue
        if (score := sense(text) - _strangeness(text, encoding)) > best:
            best, found = score, text
    return found.partition("\0")[0]


def undoubled(text: str) -> str:
    """The text of UTF-8 that somebody read as Latin-1 and wrote as UTF-8 again; another text as it is."""
    if text.isascii():
        return text
    for encoding in ("latin-1", "cp1252"):
        try:
            return text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return text


def _text_before_zero(raw: bytes) -> str:
    """The bytes before the first zero, if they are plain text, as in C; "" otherwise.

    Bytes of Indian scripts as UTF-16 are letters and tabs by turns: that is no plain text.
    """
    end = raw.find(b"\0")
    start = raw[: max(0, end)]
    if end < _HEAD_BYTES or sum(start.count(byte) for byte in _WHITE) > end // 8:
        return ""
    text = start.decode("utf-8", "replace")
    return text if sense(text) > _PLAIN else ""


def decode_comment(raw: bytes, *, likely: str = "utf-16-be") -> str:
    """The text of an EXIF UserComment: eight bytes that name the encoding, rightly or not, or none at all.

    Source: EXIF 2.32, 4.6.5 (UserComment); what programs write instead.
    """
    head, body = raw[:_HEAD_BYTES], raw[_HEAD_BYTES:]
    if named := _CHARSET.match(raw[:40].decode("latin-1")):  # as exiv2 shows it
        return decode_text(raw[named.end() :])
    if _NAMED_HEAD.fullmatch(head) or _PADDED_HEAD.fullmatch(head):
        is_japanese = head.startswith(b"JIS")
        return decode_text(
            body,
            likely=likely if head.upper().startswith(b"UNICODE") else "utf-8",
            others=_JAPANESE if is_japanese else (),
        )
    whole = decode_text(raw, likely=likely)
    if not any(byte < 32 and byte not in b"\t\n\r" for byte in head):
        return whole
    # Leading zeros belong to UTF-16 without a head, or to an unknown head.
    begins_oddly = any(_weight(character) < 0.5 for character in whole[:_HEAD_BYTES])
    if whole and "\ufffd" not in whole and not begins_oddly:
        return whole
    return decode_text(body, likely=likely)


def sense(text: str) -> float:
    """How much sense a text makes: 1 for plain words, more with words of infotexts, far below for noise."""
    judged = text[:_JUDGED] + text[_JUDGED:][-_JUDGED // 4 :]
    if not judged.strip():
        return 0.0
    weights = [_weight(character) for character in judged]
    bonus = 0.3 if _KNOWN_WORDS.search(text[:_JUDGED] + "\n" + text[-_JUDGED:]) else 0.0
    return sum(weights) / len(weights) + bonus - 0.02 * sum(weight < 0 for weight in weights[:64])


def _strangeness(text: str, encoding: str) -> float:
    """How unlikely a decoded text is: scripts that are never mixed, hardly a plain letter; 0 for a likely one."""
    codes = [ord(character) for character in text[:_JUDGED] if character > "\x7f"]
    if encoding in _OF_ONE_PLACE and any(0xE000 <= code <= 0xF8FF for code in codes):
        return 1.0  # private use characters
    if encoding == "cp1252":
        return _MIXED if _FOREIGN_WORD.search(text) or _symbols(text) > len(codes) // 2 else 0.0
    if encoding in ("cp1251", "koi8_r"):
        return _cyrillic_strangeness(text)
    if encoding == "cp932" and sum(0xFF61 <= code <= 0xFF9F for code in codes) > len(codes) // 2:
        return _MIXED  # half-wide letters are what signs of one byte look like
    has_hangul = any(0xAC00 <= code <= 0xD7A3 for code in codes)
    has_others = any(0x3040 <= code <= 0x9FFF for code in codes)
    if encoding == "euc_kr" and has_hangul and not has_others:
        return -0.05  # Chinese read as Korean is mostly Chinese still
    return _MIXED if has_hangul and has_others else 0.0


def _symbols(text: str) -> int:
    """Characters of cp1252 that are neither letters nor what people quote and punctuate with."""
    return sum(
        not character.isalpha() and character not in "“”„‘’‚«»–—…•·°€£§©®™×²³½¿¡\xa0"
        for character in text[:_JUDGED]
        if character > "\x7f"
    )


def _cyrillic_strangeness(text: str) -> float:
    """Low where whole words are Cyrillic, with small letters behind the first.

    The text of one Cyrillic code page does not look like that when read in the other.
    """
    words: list[str] = re.findall(r"[^\W\d_]+", text[:_JUDGED])
    foreign = [word for word in words if not word.isascii()]
    if not foreign or not all(0x400 <= ord(letter) < 0x460 for word in foreign for letter in word):
        return 1.0
    count = sum(map(len, foreign))
    if count < 3 or 3 * _symbols(text) > count:
        return _MIXED
    return 0.2 * sum(letter.isupper() for word in foreign for letter in word) / count


def _weight(character: str) -> float:
    """How much one character speaks for a text: letters of living scripts most, control characters below 0."""
    code = ord(character)
    if 32 <= code < 127 or character in "\n\r\t":
        return 1.0
    category = unicodedata.category(character)
    if category in ("Cc", "Cn", "Co", "Cs") or character == "\ufffd":
        return -3.0
    if category == "Cf":
        return 0.8 if code == 0x200D else 0.0
    if category[0] == "L":
        if code < 0x250:
            return 0.95
        if 0x3040 <= code <= 0x30FF:
            return 0.97
        # Plain letters read in the wrong byte order are ideographs whose lower byte is zero.
        if 0x4E00 <= code <= 0x9FFF:
            return 0.9 if code & 0xFF else 0.0
        is_living = code < 0x1800 or 0xAC00 <= code <= 0xD7A3 or 0x1E00 <= code < 0x2000 or 0xFF00 <= code <= 0xFFEF
        return 0.9 if is_living else 0.3
    if 0x3000 <= code <= 0x303F or 0xFF00 <= code <= 0xFFEF or 0x1F000 <= code <= 0x1FAFF:
        return 0.9
    if 0x2000 <= code <= 0x206F or code == 0xFE0F:
        return 0.8
    return 0.5 if category[0] == "M" else 0.3
