"""Tells the service manager how the service lives, a datagram each time.

The protocol of sd_notify(3) and of $WATCHDOG_USEC, in our own words: the packaged ones are stale or
miss the reload. Without $NOTIFY_SOCKET nothing is sent. An error is logged once and never stops
the daemon: a manager that is not listening is no reason to lose spans.
"""

import os
import socket
import time
from collections.abc import MutableMapping

import structlog

log = structlog.stdlib.get_logger(__name__)

# No child of ours may speak for us, nor take our sockets for its own.
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Tells the manager how the service lives.

    `watchdog_seconds` is within what time it wants a sign of life; None: it does not want any.
    """

    def __init__(self, address: str = "", watchdog_seconds: float | None = None) -> None:
        self._address = address
        self.watchdog_seconds = watchdog_seconds
        self._has_failed = False

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> "Notifier":
        """The notifier that the environment describes, and the variables out of it."""
        address, microseconds, pid = (environ.pop(name, "") for name in VARIABLES)
        is_for_us = pid in ("", str(os.getpid()))
        is_number = microseconds.isascii() and microseconds.isdigit() and int(microseconds) > 0
        return cls(address, int(microseconds) / 1e6 if is_for_us and is_number else None)

    @property
    def is_on(self) -> bool:
        """Whether a manager wants to know."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Started, or done with a reload."""
        self._send("READY=1", _status(status))

    def status(self, text: str) -> None:
        """One line on how it is."""
        self._send(_status(text))

    def reloading(self) -> None:
        """A reload has begun, ended by `ready`. In two datagrams it would count as failed."""
        self._send(
            "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
        )

    def stopping(self, status: str) -> None:
        """A stop has begun."""
        self._send("STOPPING=1", _status(status))

    def alive(self) -> None:
        """The sign of life for the watchdog."""
        self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """The start or stop that is under way may take so long from now on."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        message = "\n".join(assignments).encode("utf-8", "replace")
        try:
            family, address = _parse(self._address)
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)  # a manager that hangs must not hold up the event loop
                sock.sendto(message, address)
        except (OSError, ValueError) as error:
            if not self._has_failed:
                log.warning("notify_failed", socket=self._address, error=str(error))
            self._has_failed = True


def _parse(address: str) -> tuple[int, str | tuple[int, int]]:
    """Family and address of $NOTIFY_SOCKET; raises ValueError for what is neither."""
    if address.startswith("vsock:"):
        cid, _, port = address.removeprefix("vsock:").partition(":")
        return socket.AF_VSOCK, (int(cid), int(port))
    if address.startswith("@"):
        return socket.AF_UNIX, "\0" + address[1:]
    if address.startswith("/"):
        return socket.AF_UNIX, address
    raise ValueError("neither a path nor an abstract name")


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())
