"""What counts as this machine, and what a repr shows."""

import pytest

from relay.config import DestinationConfig
from relay.config.urls import is_loopback_host


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "[::1]",
        "0.0.0.0",
        "::",
        "::ffff:127.0.0.1",
        "127.1",
        "0x7f000001",
    ],
)
def test_loopback_is_this_machine_in_every_spelling(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost.example",
        "notlocalhost",
        "128.0.0.1",
        "10.0.0.1",
        "::2",
        "api.axiom.co",
        "127.0.0.1.example",
        "::ffff:10.0.0.1",
    ],
)
def test_loopback_is_not_another_machine(host: str) -> None:
    assert not is_loopback_host(host)


def test_destination_shows_no_url_in_its_repr() -> None:
    made = DestinationConfig(
        name="up", endpoint="https://u:hunter2@h/?key=hunter2", proxy="http://u:hunter2@proxy"
    )

    assert "hunter2" not in repr(made)
