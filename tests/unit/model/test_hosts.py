"""What a host means as it is written: one rule for listeners, endpoints and peers."""

import pytest

from relay.model import hosts

LOOPBACK = ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "127.1", "::1"]
LOOPBACK += ["[::1]", "::ffff:127.0.0.1", "0x7f000001", "localhost.", "LOCALHOST"]
WILDCARD = ["0.0.0.0", "::", "[::]", "::ffff:0.0.0.0", "0"]
ELSEWHERE = ["", "localhost.example", "notlocalhost", "128.0.0.1", "10.0.0.1", "::2", "unknown"]
ELSEWHERE += ["127.0.0.1.example", "::ffff:10.0.0.1", "fe80::1%eth0", "api.axiom.co"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_is_known_in_every_spelling(host: str) -> None:
    assert (hosts.is_loopback(host), hosts.is_wildcard(host)) == (True, False)
    assert hosts.is_this_machine(host)


@pytest.mark.parametrize("host", WILDCARD)
def test_a_wildcard_is_this_machine_for_who_connects_and_not_loopback(host: str) -> None:
    assert (hosts.is_loopback(host), hosts.is_wildcard(host)) == (False, True)
    assert hosts.is_this_machine(host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_everything_else_may_be_another_machine(host: str) -> None:
    assert not hosts.is_this_machine(host)


def test_an_ipv6_address_is_joined_to_its_port_in_brackets() -> None:
    assert (hosts.joined("::1", 4318), hosts.joined("h", 1)) == ("[::1]:4318", "h:1")
