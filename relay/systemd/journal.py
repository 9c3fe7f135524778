"""Log events as entries of the journal, a field each, by its native protocol.

An entry is one datagram to journald: `NAME=value` lines, or where a value has line breaks its name,
its length in 64 bits and its bytes. What no datagram holds goes in a sealed memory file. A journal
that takes nothing is waited for once and briefly, then lines are dropped and counted, since the
log must not hold up the spans; one that is gone is replaced by standard error.
"""

import errno
import fcntl
import os
import re
import socket
import struct
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

from relay.model.printable import escaped

SOCKET: Final = "/run/systemd/journal/socket"
IDENTIFIER: Final = "otlp-relay"
PRIORITIES: Final = {
    "critical": 2,
    "error": 3,
    "exception": 3,
    "warning": 4,
    "warn": 4,
    "info": 6,
    "debug": 7,
}

_WAIT_MICROSECONDS = 50_000
_SEND_BUFFER_BYTES = 8 * 1024 * 1024
# What a field of ours may not be called: the journal's own meaning would be lost.
_RESERVED = re.compile(
    r"MESSAGE(_ID)?|PRIORITY|ERRNO|TID|UNIT|USER_UNIT|INVOCATION_ID|USER_INVOCATION_ID"
    r"|DOCUMENTATION|(SYSLOG|CODE|OBJECT|COREDUMP)_.*"
)
_SPOKEN = ("reason", "message", "error", "words")  # the first there is is the sentence
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def is_connected(environ: Mapping[str, str], descriptor: int = 2) -> bool:
    """Whether that stream is the one that $JOURNAL_STREAM names, so that it ends in the journal."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def entry_of(event: Mapping[str, Any]) -> dict[str, str]:
    """The fields for an event with `event`, `level` and anything else, MESSAGE for people."""
    priority = PRIORITIES.get(str(event.get("level", "info")), 6)
    entry = {
        "MESSAGE": sentence(event),
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
    }
    for name, value in event.items():
        if name != "level":
            entry.setdefault(field_name(name), _text(value))
    return entry


def sentence(event: Mapping[str, Any]) -> str:
    """One line such as `destination_blocked axiom: 403 “bad token” (since=3)`."""
    rest = dict(event)
    rest.pop("level", None)
    name, destination = _text(rest.pop("event", "")), rest.pop("destination", None)
    said = ""
    for key in _SPOKEN:
        if key in rest:
            said = said or _text(rest.pop(key))
    line = name if destination is None else f"{name} {_text(destination)}"
    if said:
        line += f": {said}"
    others = ", ".join(f"{k}={v}" for k, v in rest.items() if "\n" not in _text(v))
    return escaped(" ".join(f"{line} ({others})".split() if others else line.split()))


def field_name(name: str) -> str:
    """The name as the journal allows it: capitals, digits and _, a letter first, at most 64."""
    field = re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_0123456789") or "FIELD"
    return (f"RELAY_{field}" if _RESERVED.fullmatch(field) else field)[:64]


def encode(entry: Mapping[str, str]) -> bytes:
    """The entry as it goes over the socket."""
    parts = []
    for name, text in entry.items():
        key, value = name.encode(), text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            parts.append(b"%s\n%s%s\n" % (key, struct.pack("<Q", len(value)), value))
        else:
            parts.append(b"%s=%s\n" % (key, value))
    return b"".join(parts)


class Journal:
    """A connection to journald. Any thread may write; nothing is raised."""

    def __init__(self, path: str = SOCKET, fallback: TextIO | None = None) -> None:
        self._path = path
        self._fallback = fallback
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        # In the kernel, which knows the journal's queue; a poll here would see our own only.
        patience = struct.pack("ll", 0, _WAIT_MICROSECONDS)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._dropped = 0

    def write(self, event: Mapping[str, Any]) -> None:
        """Write an event of structlog: `event`, `level` and its fields."""
        entry = entry_of(event)
        if self._dropped:
            entry["DROPPED_BEFORE"] = str(self._dropped)
        try:
            self._send(encode(entry))
        except BlockingIOError:
            self._dropped += 1
        except OSError:
            self._fall_back(entry)
        else:
            self._dropped = 0

    def close(self) -> None:
        """Give the socket back."""
        self._sock.close()

    def _send(self, data: bytes) -> None:
        # Where it was waited for in vain already, it is not again until it takes something.
        flags = socket.MSG_DONTWAIT if self._dropped else 0
        try:
            self._sock.sendto(data, flags, self._path)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            self._send_as_file(data, flags)

    def _send_as_file(self, data: bytes, flags: int) -> None:
        descriptor = os.memfd_create(IDENTIFIER, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))]
            self._sock.sendmsg([], rights, flags, self._path)

    def _fall_back(self, entry: Mapping[str, str]) -> None:
        out = self._fallback if self._fallback is not None else sys.stderr
        try:
            out.write(f"<{entry['PRIORITY']}>{entry['MESSAGE']}\n")
            out.flush()
        except (OSError, ValueError):
            pass  # there is nobody left to tell


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)
