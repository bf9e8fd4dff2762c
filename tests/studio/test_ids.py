"""Ids rise whatever the clock does."""

from studio.storage.ids import IdSource, is_id, row_number


def test_ids_rise_and_never_repeat() -> None:
    source = IdSource()
    ids = [source.new() for _ in range(5000)]
    assert ids == sorted(ids) and len(set(ids)) == 5000
    assert all(is_id(i) for i in ids)


def test_ids_rise_when_the_clock_goes_back_an_hour() -> None:
    times = iter([1e9, 1e9 - 3600, 1e9 - 3599, 1e9 + 10 * 365 * 86400.0, 1e9])
    source = IdSource(clock=lambda: next(times))
    ids = [source.new() for _ in range(5)]
    assert ids == sorted(ids) and len({row_number(i) for i in ids}) == 5


def test_ids_rise_over_a_restart_with_an_earlier_clock() -> None:
    last = IdSource(clock=lambda: 2e9).new()
    assert IdSource(floor=last, clock=lambda: 1e9).new() > last


def test_more_ids_in_one_millisecond_than_the_counter_holds_still_rise() -> None:
    source = IdSource(clock=lambda: 1e9)
    rows = [row_number(source.new()) for _ in range(70_000)]
    assert rows == list(range(rows[0], rows[0] + 70_000))


def test_what_is_not_an_id_is_told_apart() -> None:
    assert not any(is_id(text) for text in ("", "x" * 22, "../../etc/passwd", "f" * 22, "0" * 21, "0" * 23))
