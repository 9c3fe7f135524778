"""The sockets that the service manager opened for us ($LISTEN_FDS), by what they are for.

While the manager holds a socket too, senders meet no refused connection when the relay restarts:
what comes meanwhile queues in the kernel, and the next process answers it.

A socket named `admin` (FileDescriptorName= in its unit) is for the admin listener, every other one
for ingest. Where a listener got sockets, its `listen` in the configuration does not count.
"""

import os
import socket
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass

from relay.model.errors import ConfigError

FIRST_FD = 3
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
ADMIN = "admin"
_LOCALHOST = ("127.0.0.1", "::1")
_WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Inherited:
    """Listening sockets that were open before we started."""

    ingest: tuple[socket.socket, ...] = ()
    admin: tuple[socket.socket, ...] = ()


def take(environ: MutableMapping[str, str], *, first_fd: int = FIRST_FD) -> Inherited:
    """The sockets that are meant for this process, and the variables out of the environment.

    Every one is made close-on-exec. Raises ConfigError for a descriptor that is no listening
    stream socket.
    """
    pid, number, names, _ = (environ.pop(name, "") for name in VARIABLES)
    if pid != str(os.getpid()) or not (number.isascii() and number.isdigit()):
        return Inherited()
    named = names.split(":") if names else []
    ingest: list[socket.socket] = []
    admin: list[socket.socket] = []
    try:
        for index in range(int(number)):
            name = named[index] if index < len(named) else ""
            sock = _adopt(first_fd + index, name)
            (admin if name == ADMIN else ingest).append(sock)
    except ConfigError:
        for sock in (*ingest, *admin):
            sock.close()
        raise
    return Inherited(tuple(ingest), tuple(admin))


def _adopt(descriptor: int, name: str) -> socket.socket:
    shown = f"the socket {name or 'without a name'} (descriptor {descriptor}) of the manager"
    hint = "see ListenStream= and FileDescriptorName= in the socket unit"
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigError(f"{shown} cannot be used: {error.strerror}", hint=hint) from None
    is_stream = sock.type == socket.SOCK_STREAM and sock.family in (
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_UNIX,
    )
    if not is_stream or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ConfigError(f"{shown} is no listening stream socket", hint=hint)
    return sock


def is_as_configured(sockets: Iterable[socket.socket], listen: Iterable[tuple[str, int]]) -> bool:
    """Whether each socket stands for an address of `listen` and each of those has a socket.

    `localhost` is had with either of its addresses. Unix sockets stand in no configuration.
    """
    wanted = [(set(_hosts(host)), port) for host, port in listen]
    found = []
    for sock in sockets:
        if sock.family == socket.AF_UNIX:
            return False
        host, port = sock.getsockname()[:2]
        found.append((str(host).partition("%")[0], port))
    return all(
        any(port == p and host in hosts for hosts, p in wanted) for host, port in found
    ) and all(any(p == port and host in hosts for host, port in found) for hosts, p in wanted)


def _hosts(host: str) -> tuple[str, ...]:
    if host == "localhost":
        return _LOCALHOST
    # [::] of a socket unit takes IPv4 as well.
    return _WILDCARDS if host in _WILDCARDS else (host,)
