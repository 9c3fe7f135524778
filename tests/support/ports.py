"""Ports to listen on that nobody else comes to use by chance."""

import os
import random
import socket
from collections.abc import Iterator

# Below those that Linux gives to outgoing connections (32768 to 60999): a sender that comes again
# and again while its relay is away would take the relay's own port in the end.
_FIRST, _LAST = 10_000, 32_000
_random = random.SystemRandom()


def _mine() -> range:
    """The share of this process: tests that run in parallel never give each other's ports."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return range(_FIRST + number % count, _LAST, count)


def _in_turn() -> Iterator[int]:
    """Every port of the share before any comes a second time."""
    while True:
        yield from _random.sample(_mine(), len(_mine()))


_ports = _in_turn()


def free_port() -> int:
    """A port that was free just now, and that no outgoing connection is given.

    Two calls never give the same: whoever asks for two has not bound the first one yet.
    """
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("the ports come round and round")
