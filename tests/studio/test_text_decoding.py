"""Bytes of any encoding, told or not, rightly or wrongly: the text that makes sense, or none."""

import random

import pytest

from studio.uploads.text_decoding import decode_comment, decode_text, undoubled

TEXTS = (
    "masterpiece, a barn\nNegative prompt: blurry\nSteps: 20, Sampler: Euler, Seed: 1",
    "桜の木、夜空、美しい星\nNegative prompt: 低品質\nSteps: 20, Seed: 1",
    "桜の木と夜空",
    "夜空",
    "café, l'été à la mer",
    "море и небо",
    '{"prompt": "x"}',
    "a barn 🌾",
)
HEADS = (
    b"UNICODE\0",
    b"ASCII\0\0\0",
    b"\0" * 8,
    b"",
    b"UTF-8\0\0\0",
    b"JIS\0\0\0\0\0",
    b"UNICODE ",
    b"Unicode\0",
    b"\1\2\3\4\5\6\7\x08",
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-16"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_comment_is_read_whatever_its_head_says(text: str, head: bytes, encoding: str) -> None:
    assert decode_comment(head + text.encode(encoding)) == text
    assert decode_comment(head + text.encode(encoding), likely="utf-16-le") == text


def test_a_byte_order_mark_of_the_wrong_order_fools_nobody() -> None:
    assert decode_comment(b"UNICODE\0\xff\xfe" + TEXTS[1].encode("utf-16-be")).endswith(TEXTS[1])


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (TEXTS[4], "cp1252"),
        ("détail", "latin-1"),
        (TEXTS[1], "cp932"),
        (TEXTS[1], "gb18030"),
        ("“quoted” – text", "cp1252"),
        ("Überraschung für Jürgen", "latin-1"),
        ("5 × 3 = ½ °C", "cp1252"),
        ("маяк на острове, ночь", "cp1251"),
        ("маяк на острове, ночь", "koi8_r"),
        ("маяк\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x64", "cp1251"),
        ("밤바다 등대", "cp949"),
        ("夜晚的海，灯塔", "gb18030"),
        ("夜晚的海，燈塔", "big5"),
    ],
)
def test_what_is_no_utf_8_is_read_as_what_makes_sense(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding)) == text


def test_japanese_by_its_own_head() -> None:
    assert decode_comment(b"JIS\0\0\0\0\0" + "桜の木と夜空".encode("iso2022_jp")) == "桜の木と夜空"


@pytest.mark.parametrize(
    "text",
    [
        "समुद्र में प्रकाशस्तंभ, रात",
        "বাংলা রাতের সমুদ্র",
        "ਪੰਜਾਬੀ ਰਾਤ",
        "தமிழ் இரவு கடல்",
        "ქართული ღამე",
        "አማርኛ ሌሊት",
        "ខ្មែរ យប់",
        "မြန်မာ ည",
        "ประภาคาร กลางคืน",
        "מגדלור בלילה",
        "منارة في البحر",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("rest", ["", "\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1"])
def test_every_living_script_is_read(text: str, encoding: str, rest: str) -> None:
    assert decode_comment(b"UNICODE\0" + (text + rest).encode(encoding)) == text + rest


@pytest.mark.parametrize("head", ["charset=", "charset=Unicode ", 'charset="Ascii" ', "charset=UTF-8 "])
def test_how_a_tool_shows_the_encoding_is_no_text(head: str) -> None:
    assert decode_comment((head + "φάρος, night").encode()) == "φάρος, night"


def test_what_was_read_as_latin_1_and_written_again_is_turned_back() -> None:
    for text in (*TEXTS, "“quoted” – 🌾"):
        for encoding in ("latin-1", "cp1252"):
            once = text.encode().decode(encoding, "ignore")
            if once.encode(encoding, "ignore") == text.encode():
                assert undoubled(once) == decode_text(once.encode()) == text
        assert undoubled(text) == text


def test_what_stands_behind_a_zero_is_no_text() -> None:
    assert decode_comment(b"ASCII\0\0\0a barn, oil on canvas\0\xff\xfe\x01") == "a barn, oil on canvas"


def test_noise_is_never_a_text() -> None:
    noise = random.Random(7)
    for length in (9, 40, 400, 4000):
        for head in (b"", b"UNICODE\0", b"ASCII\0\0\0"):
            found = decode_comment(head + bytes(noise.randrange(256) for _ in range(length)))
            assert not found or length < 12, (length, head, found)
    assert decode_text(b"") == decode_text(bytes(80)) == decode_comment(b"\0" * 8 + b" " * 40) == ""
