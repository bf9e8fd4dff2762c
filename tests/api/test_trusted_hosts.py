"""Which Host a request may name."""

from pathlib import Path

import pytest

from api.security.trusted_hosts import TrustedHosts, is_arrival_address, own_names
from studio.settings import Settings

HERE = ("127.0.0.1", 7860)


def rule(**choices: object) -> TrustedHosts:
    return TrustedHosts(Settings(data_dir=Path("unused"), **choices))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST:7860"])
def test_this_machine_may_be_named(host: str) -> None:
    assert rule().allows(host, HERE)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "localhost:80",
        "localhost:7861",
        "evil.example:7860",
        "evil.example",
        "localhost:7860.evil",
        "localhost.evil.example:7860",
        "127.0.0.2:7860",
        "192.168.1.5:7860",
        "localhost:7860, evil",
        "[::1]",
        "0:7860",
        "localhost.:7860",
        "user@localhost:7860",
        "2130706433:7860",
        "\udcff",
    ],
)
def test_nothing_else_may_be_named(host: str) -> None:
    assert not rule().allows(host, HERE)


def test_the_address_a_connection_came_in_at_may_be_named() -> None:
    assert rule().allows("192.168.1.5:7860", ("192.168.1.5", 7860))
    assert rule().allows("[fe80::1]:7860", ("fe80::1%eth0", 7860))
    assert rule().allows("192.168.1.5:7860", ("::ffff:192.168.1.5", 7860))


@pytest.mark.parametrize("server", [None, ("evil.example", 7860), ("", 7860), "127.0.0.1", (1, 2), ("a", "b", "c")])
def test_an_arrival_that_is_no_address_is_not_trusted(server: object) -> None:
    assert not is_arrival_address("evil.example:7860", server)


def test_port_80_needs_no_number() -> None:
    assert rule(port=80).allows("localhost", ("127.0.0.1", 80))


def test_with_port_0_the_port_of_the_connection_counts() -> None:
    assert rule(port=0).allows("localhost:41234", ("127.0.0.1", 41234))
    assert not rule(port=0).allows("localhost:41235", ("127.0.0.1", 41234))


def test_a_chosen_host_may_be_named_and_everywhere_is_no_name() -> None:
    assert rule(host="10.1.2.3").allows("10.1.2.3:7860", HERE)
    assert rule(host="::2").allows("[::2]:7860", HERE)
    assert not rule(host="0.0.0.0").allows("0.0.0.0:7860", HERE)


def test_on_a_network_this_machine_has_its_own_names() -> None:
    names = own_names()
    assert names and "" not in names
    assert all(rule(lan=True).allows(f"{name}:7860", HERE) for name in names)
    assert not rule(lan=True).allows("evil.example:7860", HERE)


def test_a_space_has_the_name_it_was_given() -> None:
    space = rule(space_host="me-darkroom.hf.space")
    assert space.allows("me-darkroom.hf.space", HERE)
    assert not space.allows("other-darkroom.hf.space", HERE)
