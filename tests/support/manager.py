"""What a service manager gives a service, as a test needs it: a notify socket and a journal."""

import array
import contextlib
import os
import select
import socket
import struct
import time
from pathlib import Path
from typing import Self


class Manager:
    """Receives what a service tells it, one dict a datagram, with the time it came."""

    def __init__(self, address: str) -> None:
        """`address` as in $NOTIFY_SOCKET: a path, or with @ an abstract name."""
        self.address = address
        self.heard: list[dict[str, str]] = []
        self.times: list[float] = []
        self._next = 0
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("\0" + address[1:] if address.startswith("@") else address)

    def hear(self, seconds: float = 0.0) -> list[dict[str, str]]:
        """Take what comes until nothing has come for so long; everything heard so far."""
        while select.select([self._sock], [], [], seconds)[0]:
            lines = self._sock.recv(65_536).decode("utf-8").split("\n")
            self.heard.append(dict(line.split("=", 1) for line in lines))
            self.times.append(time.monotonic())
        return self.heard

    def status(self) -> str:
        """The status line as it is now."""
        return next((m["STATUS"] for m in reversed(self.hear()) if "STATUS" in m), "")

    def forget(self) -> None:
        """Wait from here on only for what comes now."""
        self._next = len(self.hear())

    def wait_for(self, name: str, value: str = "", *, seconds: float = 20.0) -> dict[str, str]:
        """The next message, after the one that was returned last, that has `value` in `name`."""
        deadline = time.monotonic() + seconds
        while True:
            self.hear(0.0)
            while self._next < len(self.heard):
                message = self.heard[self._next]
                self._next += 1
                if name in message and value in message[name]:
                    return message
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {name}={value} within {seconds} s; heard: {self.heard}")
            select.select([self._sock], [], [], left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()


class FakeJournal:
    """A socket like journald's, and the protocol read back from its description."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self.files = 0  # entries that came as a file

    def entry(self, seconds: float = 10.0) -> dict[str, str]:
        """The next entry."""
        self._sock.settimeout(seconds)
        data, rights, _flags, _address = self._sock.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for level, kind, content in rights:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors = array.array("i", content)
                with os.fdopen(descriptors[0], "rb") as file:
                    data = os.pread(file.fileno(), 1 << 26, 0)
                    self.files += 1
        return decode(data)

    def entries(self) -> list[dict[str, str]]:
        """Everything that has come."""
        found = []
        with contextlib.suppress(TimeoutError, BlockingIOError):
            while True:
                found.append(self.entry(0.0))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()


def decode(data: bytes) -> dict[str, str]:
    """Fields of an entry of the journal's native protocol."""
    fields: dict[str, str] = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + length], data[8 + length :]
            assert data[:1] == b"\n"
            data = data[1:]
        assert name.decode() not in fields, name
        fields[name.decode()] = value.decode("utf-8")
    return fields
