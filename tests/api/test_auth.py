"""Tries are slowed per address; nobody is locked out by what another does."""

import pytest

from api.security.auth import FORGET_AFTER_S, LONGEST_WAIT_S, MOST_ADDRESSES, Throttle


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_wait_doubles_up_to_a_minute(clock: Clock) -> None:
    throttle = Throttle(clock)
    assert [throttle.failed("a") for _ in range(8)] == [1, 2, 4, 8, 16, 32, LONGEST_WAIT_S, LONGEST_WAIT_S]


def test_the_wait_runs_out(clock: Clock) -> None:
    throttle = Throttle(clock)
    throttle.failed("a")
    throttle.failed("a")
    assert throttle.wait_s("a") == 2
    clock.now += 1.5
    assert throttle.wait_s("a") == 0.5
    clock.now += 1
    assert throttle.wait_s("a") == 0


def test_another_address_does_not_wait(clock: Clock) -> None:
    throttle = Throttle(clock)
    for _ in range(200):
        throttle.failed("10.0.0.1")
    assert throttle.wait_s("10.0.0.2") == 0
    assert throttle.wait_s("10.0.0.1") > 0


def test_one_ipv6_network_counts_as_one(clock: Clock) -> None:
    throttle = Throttle(clock)
    throttle.failed("2001:db8::1")
    assert throttle.wait_s("2001:db8::ffff") > 0
    assert throttle.wait_s("2001:db8:0:1::1") == 0


def test_ipv4_written_as_ipv6_is_not_one_network(clock: Clock) -> None:
    throttle = Throttle(clock)
    throttle.failed("::ffff:10.0.0.1")
    assert throttle.wait_s("::ffff:10.0.0.2") == 0


def test_the_right_password_and_time_both_forgive(clock: Clock) -> None:
    throttle = Throttle(clock)
    for address in ("a", "b"):
        throttle.failed(address)
        throttle.failed(address)
    throttle.passed("a")
    assert throttle.failed("a") == 1
    clock.now += FORGET_AFTER_S + 1
    assert throttle.failed("b") == 1


def test_the_list_of_addresses_does_not_grow_for_ever(clock: Clock) -> None:
    throttle = Throttle(clock)
    for number in range(MOST_ADDRESSES + 10):
        throttle.failed(f"host-{number}")
    assert throttle.wait_s("host-0") == 0 and throttle.wait_s(f"host-{MOST_ADDRESSES}") > 0
