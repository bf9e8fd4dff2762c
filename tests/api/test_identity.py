"""Cookies that only this data folder can have signed, and the file that holds the secret."""

import os
from pathlib import Path

import pytest

from api.security.identity import CookieStyle, Owners, Sessions, Signer, mark_of
from studio.storage.secret_file import secret_or_new

STYLE = CookieStyle(in_frame=False)


def value(header: str) -> str:
    return header.partition(";")[0].partition("=")[2]


def test_the_secret_is_made_once_and_for_the_user_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "cookies.key"
    secret = secret_or_new(path).value
    assert len(secret) == 32 and secret_or_new(path).value == secret
    assert [p.name for p in path.parent.iterdir()] == ["cookies.key"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_secret_that_others_can_read_is_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "cookies.key"
    secret = secret_or_new(path).value
    path.chmod(0o644)
    assert secret_or_new(path).value == secret
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_an_owner_comes_back_out_of_its_cookie() -> None:
    owners = Owners(b"s" * 32, STYLE)
    owner = owners.new()
    assert owners.read(value(owners.header(owner))) == owner
    assert owners.new() != owner


@pytest.mark.parametrize(
    "forged",
    ["", ".", "..", "a.b", "0" * 32, "0" * 32 + ".", "0" * 32 + "." + "A" * 43, "\udcff.\udcff", "é.é", "x" * 5000],
)
def test_a_forged_cookie_is_nobody(forged: str) -> None:
    assert Owners(b"s" * 32, STYLE).read(forged) is None


def test_another_folders_cookie_is_nobody_and_has_another_name() -> None:
    ours, theirs = Owners(b"s" * 32, STYLE), Owners(b"t" * 32, STYLE)
    assert ours.read(value(theirs.header("0" * 32))) is None
    assert ours.cookie != theirs.cookie


def test_one_changed_digit_breaks_the_signature() -> None:
    owners = Owners(b"s" * 32, STYLE)
    good = value(owners.header("0" * 32))
    assert owners.read("1" + good[1:]) is None
    assert owners.read(good[:-1] + ("A" if good[-1] != "A" else "B")) is None


def test_a_signature_for_one_purpose_is_none_for_another() -> None:
    signed = Signer(b"s" * 32, "owner").sign("0" * 32)
    assert Signer(b"s" * 32, "owner").check(signed) == "0" * 32
    assert Signer(b"s" * 32, "session").check(signed) is None


def test_a_session_ends_on_its_day_and_with_its_password() -> None:
    now = [1000.0]
    sessions = Sessions(b"s" * 32, "pass", STYLE, clock=lambda: now[0])
    cookie = value(sessions.header())
    assert sessions.is_open(cookie)
    assert not Sessions(b"s" * 32, "other", STYLE, clock=lambda: now[0]).is_open(cookie)
    now[0] += 31 * 24 * 3600
    assert not sessions.is_open(cookie)


def test_an_owner_cookie_opens_no_session() -> None:
    owners, sessions = Owners(b"s" * 32, STYLE), Sessions(b"s" * 32, "pass", STYLE)
    assert not sessions.is_open(value(owners.header(owners.new())))


def test_cookies_are_for_this_site_only_unless_the_page_is_framed() -> None:
    assert "; HttpOnly; SameSite=Lax" in CookieStyle(in_frame=False).header("a", "b", 1)
    framed = CookieStyle(in_frame=True).header("a", "b", 1)
    assert framed.endswith("SameSite=None; Secure; Partitioned") and "HttpOnly" in framed


def test_the_mark_says_nothing_of_the_secret() -> None:
    assert len(mark_of(b"s" * 32)) == 8 and b"s".hex() * 4 != mark_of(b"s" * 32)
