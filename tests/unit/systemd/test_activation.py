"""Sockets of the service manager, by their names."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from relay.model.errors import ConfigError
from relay.systemd.activation import is_as_configured, take

FIRST_FD = 700


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def pass_on(stack: ExitStack, *sockets: socket.socket) -> None:
    """Put them where a manager would, only from 700 on."""
    for index, sock in enumerate(sockets):
        os.dup2(sock.fileno(), FIRST_FD + index, inheritable=True)
        sock.close()
        stack.callback(_close, FIRST_FD + index)


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


def environ_of(number: int, names: str = "", pid: int | None = None) -> dict[str, str]:
    names_too = {"LISTEN_FDNAMES": names} if names else {}
    return {
        "LISTEN_PID": str(pid or os.getpid()),
        "LISTEN_FDS": str(number),
        "PATH": "/bin",
    } | names_too


def tcp(host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family)


def unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def test_sockets_go_where_their_names_say_and_all_others_to_ingest(
    opened: ExitStack, tmp_path: Path
) -> None:
    sockets = [tcp(), tcp("::1"), unix(tmp_path / "a"), tcp(), unix(tmp_path / "b")]
    names = [sock.getsockname() for sock in sockets]
    pass_on(opened, *sockets)
    environ = environ_of(5, "ingest:otlp-relay.socket:admin:unknown:admin")
    found = take(environ, first_fd=FIRST_FD)
    for sock in (*found.ingest, *found.admin):
        opened.callback(sock.close)

    assert [sock.getsockname() for sock in found.ingest] == [names[0], names[1], names[3]]
    assert [sock.getsockname() for sock in found.admin] == [names[2], names[4]]
    assert not any(sock.get_inheritable() for sock in (*found.ingest, *found.admin))
    assert environ == {"PATH": "/bin"}


def test_without_names_everything_is_for_ingest(opened: ExitStack) -> None:
    pass_on(opened, tcp(), tcp())
    found = take(environ_of(2), first_fd=FIRST_FD)
    for sock in found.ingest:
        opened.callback(sock.close)

    assert len(found.ingest) == 2
    assert found.admin == ()


def test_sockets_for_another_process_are_not_ours_but_the_variables_go(opened: ExitStack) -> None:
    pass_on(opened, tcp())
    environ = environ_of(1, "ingest", pid=1)

    assert take(environ, first_fd=FIRST_FD).ingest == ()
    assert environ == {"PATH": "/bin"}


def test_socket_that_takes_no_connections_is_refused_by_its_name(opened: ExitStack) -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent = socket.socket()
    for sock in (datagrams, silent):
        sock.bind(("127.0.0.1", 0))
    packets = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    packets.bind("")
    packets.listen()
    pass_on(opened, datagrams, silent, packets)
    for first in range(FIRST_FD, FIRST_FD + 3):
        with pytest.raises(ConfigError, match=r"socket mine .* no listening stream") as error:
            take(environ_of(1, "mine"), first_fd=first)
        assert "ListenStream=" in str(error.value.hint)


def test_descriptor_that_is_not_open_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        take(environ_of(1, "ingest"), first_fd=999)


def test_sockets_are_compared_with_what_is_configured(tmp_path: Path) -> None:
    v4, v6, other = tcp(), tcp("::1"), tcp()
    path = unix(tmp_path / "s")
    port, port6 = v4.getsockname()[1], v6.getsockname()[1]
    answers = [
        is_as_configured([v4], [("localhost", port)]),
        is_as_configured([v4], [("127.0.0.1", port)]),
        is_as_configured([v4, v6], [("localhost", port), ("::1", port6)]),
        is_as_configured([v4], [("localhost", port + 1)]),
        is_as_configured([v4, other], [("localhost", port)]),
        is_as_configured([v4], [("localhost", port), ("::1", port6)]),
        is_as_configured([path], [("localhost", port)]),
    ]
    for sock in (v4, v6, other, path):
        sock.close()

    assert answers == [True, True, True, False, False, False, False]
