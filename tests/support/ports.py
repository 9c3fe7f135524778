"""Ports to listen on that nobody else comes to use by chance."""

import random
import socket

# Below those that Linux gives to outgoing connections (32768 to 60999): a sender that comes again
# and again while its relay is away would take the relay's own port in the end.
_FIRST, _LAST = 10_000, 32_000
_random = random.SystemRandom()


def free_port() -> int:
    """A port that was free just now, and that no outgoing connection is given."""
    while True:
        port = _random.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
