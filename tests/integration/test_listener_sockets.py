"""Addresses become listening sockets, or an error that says what to do."""

import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.model.errors import ConfigError
from relay.server.listener import raise_open_files_limit, tls_context
from relay.server.sockets import bind, bind_beside, is_loopback, refuse_exposed
from tests.support.ports import free_port


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_bind_takes_both_loopbacks_on_one_port_for_localhost() -> None:
    sockets = bind("localhost:0")
    names = [sock.getsockname()[:2] for sock in sockets]
    is_v6_only = [s.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) for s in sockets[1:]]
    with socket.create_connection(("127.0.0.1", names[0][1])):
        pass  # connections queue although nobody accepts yet
    close(sockets)

    assert names[0][0] == "127.0.0.1"
    assert [host for host, _ in names[1:]] in ([], ["::1"])
    assert len({port for _, port in names}) == 1
    assert all(is_v6_only)


def test_bind_beside_takes_another_port_of_the_same_addresses_and_goes_on_where_it_cannot(
    tmp_path: Path,
) -> None:
    port = free_port()
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "relay.sock"))
    here = [*bind("localhost:0"), unix]
    first = bind_beside(here, port, key="ingest.grpc_hint")
    with capture_logs() as events:
        second = bind_beside(here, port, key="ingest.grpc_hint")
    found = [sock.getsockname()[:2] for sock in first]
    for sock in (*here, *first):
        sock.close()

    assert found == [("127.0.0.1", port), ("::1", port)]
    assert second == []
    assert [each["event"] for each in events] == ["hint_not_given"] * 2


def test_bind_leaves_the_ipv6_loopback_out_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Ipv4Only(socket.socket):
        def __init__(self, family: int = -1, kind: int = -1, proto: int = -1) -> None:
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            super().__init__(family, kind, proto)

    monkeypatch.setattr(socket, "socket", Ipv4Only)
    sockets = bind("localhost:0")
    hosts = [sock.getsockname()[0] for sock in sockets]
    close(sockets)

    assert hosts == ["127.0.0.1"]


def test_bind_takes_several_addresses_as_text_or_in_two() -> None:
    sockets = bind(["127.0.0.1:0", ("127.0.0.2", 0)])
    hosts = [sock.getsockname()[0] for sock in sockets]
    close(sockets)

    assert hosts == ["127.0.0.1", "127.0.0.2"]


def test_bind_names_the_address_and_a_way_to_find_who_has_it_when_taken(taken: int) -> None:
    with pytest.raises(ConfigError) as error:
        bind(f"127.0.0.1:{taken}")

    assert f"127.0.0.1:{taken} is taken" in error.value.message
    assert "ss -ltnp" in str(error.value.hint)
    assert str(taken) in str(error.value.hint)


def test_bind_closes_what_it_has_when_a_later_address_fails(taken: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    with pytest.raises(ConfigError):
        bind([f"127.0.0.1:{free}", f"127.0.0.1:{taken}"])

    close(bind(f"127.0.0.1:{free}"))


@pytest.mark.parametrize(
    ("errno", "words"),
    [(13, "may not be listened on"), (99, "no address of this host"), (12, "Cannot allocate")],
)
def test_bind_says_why_an_address_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, errno: int, words: str
) -> None:
    class Refused(socket.socket):
        def bind(self, _address: object) -> None:
            raise OSError(errno, "Cannot allocate memory")

    monkeypatch.setattr(socket, "socket", Refused)

    with pytest.raises(ConfigError, match=words):
        bind("127.0.0.1:80")


@pytest.mark.parametrize(
    "address", ["4318", "localhost", "localhost:", "localhost:x", "a:70000", ":4318", "::1:4318"]
)
def test_bind_refuses_what_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match=r"ingest\.listen") as error:
        bind(address)

    assert "localhost:4318" in str(error.value.hint)


def test_bind_refuses_names_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: object, **_options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    with pytest.raises(ConfigError, match=r"nobody\.invalid:1 cannot be .*not known"):
        bind("nobody.invalid:1")


def test_is_loopback_knows_what_only_this_host_reaches(tmp_path: Path) -> None:
    local = [*bind("localhost:0"), socket.socket(socket.AF_UNIX)]
    local[-1].bind(str(tmp_path / "sock"))
    (exposed,) = bind("0.0.0.0:0")
    answers = [is_loopback(sock) for sock in local], is_loopback(exposed)
    close([*local, exposed])

    assert answers == ([True] * len(local), False)


def test_refuse_exposed_asks_for_tokens_where_others_can_reach() -> None:
    local, exposed = bind("127.0.0.1:0"), bind("0.0.0.0:0")
    refuse_exposed(local, has_tokens=False)
    refuse_exposed(exposed, has_tokens=True)
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 port .* no tokens"):
        refuse_exposed(exposed, has_tokens=False)
    close([*local, *exposed])


def test_open_files_limit_is_raised_and_never_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [1024, 4096]

    def set_limits(_which: int, new: tuple[int, int]) -> None:
        limits[:] = new

    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", set_limits)

    assert raise_open_files_limit(2048) == 2048
    assert raise_open_files_limit(16_384) == 4096
    assert raise_open_files_limit(100) == 4096
    assert limits == [4096, 4096]


def test_tls_context_names_the_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")

    with pytest.raises(ConfigError, match=r"cert\.pem"):
        tls_context(tmp_path / "cert.pem", tmp_path / "cert.pem")
    with pytest.raises(ConfigError, match="No such file"):
        tls_context(tmp_path / "absent.pem", tmp_path / "absent.pem")
