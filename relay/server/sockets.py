"""Listening sockets for addresses such as `localhost:4318`.

We bind ourselves, before anything is started: an address that cannot be used is a setting to be
corrected, told before the first span is taken.
"""

import contextlib
import errno
import socket
from collections.abc import Iterable
from typing import Final

import structlog

from relay.config import ListenAddress
from relay.model import hosts
from relay.model.errors import ConfigError
from relay.systemd import activation

log = structlog.stdlib.get_logger(__name__)

BACKLOG: Final = 4096  # as many as the listener keeps open; the kernel takes its somaxconn at most
_PORT_TRIES: Final = 16


def bind(
    addresses: str | Iterable[str | tuple[str, int]], *, key: str = "ingest.listen"
) -> list[socket.socket]:
    """Listening sockets for `HOST:PORT`, as text or in two; `localhost` is 127.0.0.1 and ::1.

    Port 0 is any free one, for `localhost` the same on both. Connections queue from now on.
    Raises ConfigError of `key` when an address is not ours, is taken or may not be used.
    """
    listening: list[socket.socket] = []
    try:
        for address in [addresses] if isinstance(addresses, str) else addresses:
            host, port = ListenAddress.parse(address) if isinstance(address, str) else address
            shown = hosts.joined(host, port)
            if host == "localhost":
                listening += _bind_localhost(shown, port)
            else:
                listening += _bind_host(shown, host, port)
    except BaseException as error:
        for sock in listening:
            sock.close()
        if isinstance(error, ConfigError):
            raise ConfigError(error.message, key=key, hint=error.hint) from error.__cause__
        raise
    return listening


def bind_or_inherit(
    listener: str, inherited: Iterable[socket.socket], listen: Iterable[tuple[str, int]]
) -> list[socket.socket]:
    """The sockets of the service manager, if it gave any, else our own. Raises ConfigError."""
    sockets = list(inherited)
    if not sockets:
        return bind(listen, key=f"{listener}.listen")
    if not activation.is_as_configured(sockets, listen):
        log.warning(
            "listen_ignored",
            key=f"{listener}.listen",
            reason="the service manager's sockets are used instead",
            listening=", ".join(address_of(sock) for sock in sockets),
        )
    return sockets


def bind_beside(sockets: Iterable[socket.socket], port: int, *, key: str) -> list[socket.socket]:
    """Sockets on `port` of the addresses of `sockets`; those that can be had, others are logged."""
    found: list[socket.socket] = []
    hosts_of = (sock.getsockname()[0] for sock in sockets if sock.family != socket.AF_UNIX)
    for host in dict.fromkeys(hosts_of):
        try:
            found += bind([(host, port)], key=key)
        except ConfigError as error:
            log.warning("hint_not_given", key=key, reason=error.message)
    return found


def address_of(sock: socket.socket) -> str:
    """Where a socket listens, as people write it."""
    if sock.family == socket.AF_UNIX:
        name = sock.getsockname()
        return "@" + name[1:].decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    host, port = sock.getsockname()[:2]
    return hosts.joined(host, port)


def is_loopback(sock: socket.socket) -> bool:
    """Whether only this host can reach the socket: a loopback address or a Unix socket."""
    if sock.family == socket.AF_UNIX:
        return True
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return hosts.is_loopback(str(sock.getsockname()[0]))


def refuse_exposed(
    sockets: Iterable[socket.socket], *, has_tokens: bool, key: str = "ingest.listen"
) -> None:
    """Raise ConfigError if others than this host could come in without a token.

    It looks at the sockets themselves: those of a service manager stand in no configuration.
    """
    for sock in sockets:
        if not has_tokens and not is_loopback(sock):
            host, port = sock.getsockname()[:2]
            raise ConfigError(
                f"{host} port {port} can be reached from other hosts and no tokens are set",
                key=key,
                hint="listen on localhost, also in a socket unit"
                + (", or set ingest.tokens" if key == "ingest.listen" else ""),
            )


def _bind_localhost(address: str, port: int) -> list[socket.socket]:
    """127.0.0.1 and, where the host has one, ::1, on the same port."""
    for tries_left in range(_PORT_TRIES if port == 0 else 0, -1, -1):
        first = _bind_one(address, socket.AF_INET, "127.0.0.1", port)
        try:
            second = _bind_one(address, socket.AF_INET6, "::1", first.getsockname()[1])
        except ConfigError as error:
            reason = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
            if reason in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                return [first]  # no IPv6 here
            first.close()
            if not tries_left or reason != errno.EADDRINUSE:
                raise
        else:
            return [first, second]
    raise AssertionError("the last try returns or raises")


def _bind_host(address: str, host: str, port: int) -> list[socket.socket]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _unusable(address, error) from error
    listening: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        for family, host_address in dict.fromkeys((info[0], str(info[4][0])) for info in found):
            sock = _bind_one(address, family, host_address, port)
            undo.callback(sock.close)
            listening.append(sock)
        undo.pop_all()
    return listening


def _bind_one(address: str, family: int, host: str, port: int) -> socket.socket:
    # The protocol is named, since asyncio sets TCP_NODELAY only on sockets that name it.
    try:
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise _unusable(address, error) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)  # with SO_REUSEADDR only this tells that somebody else listens
    except OSError as error:
        sock.close()
        raise _unusable(address, error) from error
    return sock


def _unusable(address: str, error: OSError) -> ConfigError:
    hint = None
    if error.errno == errno.EADDRINUSE:
        message = f"{address} is taken by another process"
        hint = f"`ss -ltnp 'sport = :{address.rpartition(':')[2]}'` shows which one"
    elif error.errno in (errno.EACCES, errno.EPERM):
        message = f"{address} may not be listened on by this user"
        hint = "use a port above 1023, or give the service CAP_NET_BIND_SERVICE"
    elif error.errno == errno.EADDRNOTAVAIL:
        message = f"{address} is no address of this host"
        hint = "`ip address` shows its addresses"
    else:
        message = f"{address} cannot be listened on: {error.strerror}"
    return ConfigError(message, hint=hint)
