"""Streams of events have no end of their own, so one owner may have only so many."""

import pytest

from api.security.limits import Streams
from contract.errors import QueueFull


def test_an_owner_may_have_so_many_and_another_as_many() -> None:
    streams = Streams(2)
    with streams.counted("a"), streams.counted("a"):
        with pytest.raises(QueueFull, match="2 streams"):
            streams.check("a")
        streams.check("b")
    streams.check("a")
    assert not streams._open


def test_what_ends_in_a_fault_counts_no_more() -> None:
    streams = Streams(1)
    with pytest.raises(ValueError), streams.counted("a"):
        raise ValueError
    streams.check("a")
