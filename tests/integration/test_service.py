"""A real process under a manager that hears everything: start, reload, stop, a disk that hangs."""

import http.client
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from mockcollector.server import MockCollector
from tests.support.load import Load, request_of, span_ids
from tests.support.manager import FakeJournal, Manager
from tests.support.relay_process import Relay, eventually

WATCHDOG = {"WATCHDOG_USEC": "600000"}
PATCHED = """
import sys
from functools import partial
from relay import daemon, logs
from relay.systemd import journal
from relay.cli import main

{patch}
sys.argv = ["otlp-relay", *sys.argv[1:]]
main()
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(str(tmp_path / "notify")) as manager:
        yield manager


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def patched(tmp_path: Path, patch: str) -> tuple[str, ...]:
    """A command that runs the relay with a part replaced, in a process of its own."""
    script = tmp_path / "patched.py"
    script.write_text(PATCHED.format(patch=patch))
    return (str(script),)


def told(manager: Manager, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.address, **more}


def tcp(stack: ExitStack, host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return stack.enter_context(socket.create_server((host, 0), family=family, backlog=512))


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def post_on(connection: http.client.HTTPConnection, body: bytes) -> int:
    connection.request("POST", "/v1/traces", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


# Start, reload, stop


def test_ready_is_said_when_a_span_can_be_kept_and_the_status_follows(
    tmp_path: Path, manager: Manager
) -> None:
    with MockCollector(script="403") as upstream:
        config = {"axiom": {"endpoint": upstream.endpoint}}
        relay = Relay(tmp_path, config, environ=told(manager)).start(wait=False)
        try:
            ready = manager.wait_for("READY")
            assert ready["STATUS"] == "1 destination, all well; nothing waiting"
            assert relay.post(request_of(span_ids(2)))[0] == 200
            blocked = manager.wait_for("STATUS", "1 blocked: axiom")
            assert "403" in blocked["STATUS"]
            assert "waiting, oldest" in blocked["STATUS"]
        finally:
            assert relay.stop() == 0
        assert manager.wait_for("STOPPING")["STATUS"].startswith("stopping; 1 destination")


def test_reload_is_told_from_its_begin_to_its_end(tmp_path: Path, manager: Manager) -> None:
    with Relay(tmp_path, environ=told(manager)) as relay:
        manager.wait_for("READY")
        before = time.monotonic_ns() // 1000
        relay.signal(signal.SIGHUP)
        reloading = manager.wait_for("RELOADING", "1")
        assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert "reload refused" not in manager.wait_for("READY")["STATUS"]


def test_refused_reload_ends_too_and_the_status_says_so_until_one_is_taken(
    tmp_path: Path, manager: Manager
) -> None:
    with Relay(tmp_path, environ=told(manager)) as relay:
        manager.wait_for("READY")
        whole = relay.config.read_text()
        relay.config.write_text(whole + "\n[nonsense]\n")
        relay.signal(signal.SIGHUP)
        manager.wait_for("RELOADING")
        refused = manager.wait_for("READY")["STATUS"]
        assert refused.startswith("reload refused: ")
        assert "nonsense" in refused
        assert "; still running with the old configuration; no destination is configured" in refused
        relay.config.write_text(whole)
        relay.signal(signal.SIGHUP)
        assert manager.wait_for("READY")["STATUS"].startswith("no destination is configured")


def test_stop_is_prolonged_while_a_request_is_out_and_nothing_is_lost(
    tmp_path: Path, manager: Manager
) -> None:
    ids = span_ids(3)
    with MockCollector(script="hang*") as upstream:
        config = {"mock": {"endpoint": upstream.endpoint}}
        with Relay(tmp_path, config, environ=told(manager)) as relay:
            assert relay.post(request_of(ids))[0] == 200
            upstream.journal.wait_for_requests(1, timeout=10)
            relay.signal(signal.SIGTERM)
            manager.wait_for("STOPPING")
            for _ in range(3):
                assert int(manager.wait_for("EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"]) >= 5e6
            relay.signal(signal.SIGTERM)  # has waited long enough for this test
            assert relay.wait() == 0
    with MockCollector() as upstream:
        relay.write_config({"mock": {"endpoint": upstream.endpoint}})
        with relay:
            spans = upstream.journal.wait_for_spans(3, timeout=10)
            assert {span.span_id for span in spans} == set(ids)


def test_dead_part_is_told_before_the_process_ends_with_70(
    tmp_path: Path, manager: Manager
) -> None:
    dying = """
async def watch(self):
    raise RuntimeError("dead")
daemon.Buffer.wait_failed = watch
"""
    relay = Relay(tmp_path, environ=told(manager), command=patched(tmp_path, dying))
    relay.start(wait=False)

    assert relay.wait(20) == 70
    assert "a part died" in manager.wait_for("STATUS", "a part died")["STATUS"]


def test_reason_for_not_starting_stands_in_the_status(tmp_path: Path, manager: Manager) -> None:
    shown = Relay(tmp_path, settings="[buffer]\nmax_siez = 1", environ=told(manager)).run("serve")
    (message,) = manager.hear(0.5)

    assert shown.returncode == 2
    assert message["STATUS"].startswith("not started: ")
    assert "max_siez" in message["STATUS"]


def test_disk_error_at_the_start_ends_with_70_so_that_it_is_tried_again(
    tmp_path: Path, manager: Manager
) -> None:
    broken = """
import apsw
from relay.buffer.sqlite.writer import Writer
def fail(self):
    raise apsw.IOError("disk I/O error")
Writer.open = fail
"""
    relay = Relay(tmp_path, environ=told(manager), command=patched(tmp_path, broken))
    relay.start(wait=False)

    assert relay.wait(20) == 70
    assert "disk I/O error" in manager.wait_for("STATUS", "not started")["STATUS"]


# A disk that hangs


@pytest.mark.proofs
def test_commit_that_hangs_is_503_in_time_and_told_and_over_when_it_is(
    tmp_path: Path, manager: Manager
) -> None:
    hang = tmp_path / "hang"
    environ = told(manager, **WATCHDOG, HANG_FILE=str(hang))
    patch = "import tests.support.hanging_vfs\n"
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with Relay(tmp_path, environ=environ, command=patched(tmp_path, patch)) as relay:
        assert relay.post(request_of(span_ids(1)))[0] == 200
        hang.touch()
        began = time.monotonic()
        status, body = relay.post(request_of(span_ids(1)))
        took = time.monotonic() - began
        assert status == 503
        assert b"did not accept this request" in body
        assert 6.0 < took < 9.5  # before a stock sender gives up after 10 s
        began = time.monotonic()
        status, body = relay.post(request_of(span_ids(1)))
        assert status == 503
        assert b"has not finished a write for" in body
        assert time.monotonic() - began < 2.0
        code, text = relay.get("/readyz", parse=False)
        assert code == 503
        assert "not finished a write" in text
        assert "NOT READY: the disk has not" in manager.wait_for("STATUS", "NOT READY")["STATUS"]
        manager.wait_for("WATCHDOG", seconds=2.0)
        hang.unlink()
        eventually(relay.is_ready)
        ids = span_ids(1)
        assert relay.post(request_of(ids))[0] == 200
        eventually(lambda: manager.status().startswith("no destination is configured"))


@pytest.mark.proofs
def test_commit_that_hangs_for_minutes_ends_the_signs_of_life(
    tmp_path: Path, manager: Manager
) -> None:
    hang = tmp_path / "hang"
    environ = told(manager, **WATCHDOG, HANG_FILE=str(hang))
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    patch = """
import tests.support.hanging_vfs
daemon.Service = partial(daemon.Service, stall_to_abort_seconds=2.0)
"""
    with Relay(tmp_path, environ=environ, command=patched(tmp_path, patch)) as relay:
        manager.wait_for("WATCHDOG")
        hang.touch()
        poster = threading.Thread(target=relay.post, args=[request_of(span_ids(1))])
        poster.start()
        eventually(lambda: relay.status()["buffer"]["stalled_seconds"] > 2.1)
        manager.hear()
        before = len([m for m in manager.heard if "WATCHDOG" in m])
        eventually(lambda: relay.status()["buffer"]["stalled_seconds"] > 4.0)
        manager.hear()
        assert len([m for m in manager.heard if "WATCHDOG" in m]) <= before + 1
        manager.forget()
        hang.unlink()
        manager.wait_for("WATCHDOG")
        poster.join()


# Sockets of the manager


def test_sockets_of_the_manager_are_served_instead_of_those_configured(
    tmp_path: Path, opened: ExitStack
) -> None:
    path = str(tmp_path / "ingest.sock")
    unix = opened.enter_context(socket.socket(socket.AF_UNIX))
    unix.bind(path)
    unix.listen()
    v4, v6, admin = tcp(opened), tcp(opened, "::1"), tcp(opened)
    names = {"LISTEN_FDNAMES": "ingest:ingest:otlp-relay.socket:admin"}
    relay = Relay(tmp_path, environ=names, listening=[v4, v6, unix, admin])
    configured = relay.ingest_port
    relay.ingest_port, relay.admin_port = v4.getsockname()[1], admin.getsockname()[1]
    early = http.client.HTTPConnection("127.0.0.1", relay.ingest_port, timeout=30)
    early.connect()  # queues in the kernel: nobody runs
    with relay:
        statuses = [
            post_on(early, request_of(span_ids(1))),
            relay.post(request_of(span_ids(1)))[0],
            post_on(
                http.client.HTTPConnection("::1", v6.getsockname()[1], timeout=30),
                request_of(span_ids(1)),
            ),
            post_on(UnixConnection(path), request_of(span_ids(1))),
        ]
        ingest = relay.status()["ingest"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", configured), 5)
        assert relay.stop() == 0

        assert statuses == [200] * 4
        assert ingest["kept_spans"] == 4
        assert ingest["listening"] == [
            f"127.0.0.1:{relay.ingest_port}",
            f"[::1]:{v6.getsockname()[1]}",
            path,
        ]
        assert "listen_ignored" in relay.log()
        assert Path(path).is_socket()  # it is the manager's, also to remove


def test_exposed_socket_of_the_manager_needs_tokens_too(tmp_path: Path, opened: ExitStack) -> None:
    exposed = tcp(opened, "0.0.0.0")
    for name in ("ingest", "admin"):
        relay = Relay(tmp_path, environ={"LISTEN_FDNAMES": name}, listening=[exposed])
        relay.start(wait=False)

        assert relay.wait(20) == 2
        assert f"{name}.listen: 0.0.0.0 port" in relay.log()


class OneShot:
    """Senders that never try again, each request on a connection of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]
        self.acknowledged: set[str] = set()
        self.failures: list[str] = []

    def _run(self) -> None:
        while not self._stop.is_set():
            ids = span_ids(2)
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                status = post_on(connection, request_of(ids))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                continue
            if status == 200:
                self.acknowledged.update(ids)
            else:
                self.failures.append(str(status))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def restart_under(relay: Relay, acknowledged: set[str], times: int) -> None:
    for _ in range(times):
        enough = len(acknowledged) + 60
        eventually(lambda enough=enough: len(acknowledged) > enough)  # type: ignore[misc]
        assert relay.stop() == 0
        relay.start()


def test_senders_that_never_try_again_lose_nothing_by_restarts(
    tmp_path: Path, opened: ExitStack
) -> None:
    sock = tcp(opened)
    with MockCollector() as upstream:
        config: Mapping[str, Mapping[str, str]] = {"mock": {"endpoint": upstream.endpoint}}
        relay = Relay(tmp_path, config, listening=[sock])
        relay.ingest_port = sock.getsockname()[1]
        with relay:
            with OneShot(relay.ingest_port) as load:
                restart_under(relay, load.acknowledged, 3)

            assert load.failures == []
            upstream.journal.wait_for_spans(len(load.acknowledged), timeout=20)
            arrived = {span.span_id for span in upstream.journal.spans()}
            assert load.acknowledged <= arrived


def test_connections_that_are_kept_open_end_with_an_answer(
    tmp_path: Path, opened: ExitStack
) -> None:
    sock = tcp(opened)
    relay = Relay(tmp_path, listening=[sock])
    relay.ingest_port = sock.getsockname()[1]
    with relay:
        with Load(relay.ingest_port) as load:
            restart_under(relay, load.acknowledged, 3)

        assert load.broken == 0
        assert set(load.statuses) == {200}


# The journal


def test_log_goes_to_the_journal_where_standard_error_ends_there(tmp_path: Path) -> None:
    patch = f"journal.Journal = partial(journal.Journal, {str(tmp_path / 'journal')!r})"
    config = {"gone": {"endpoint": "http://127.0.0.1:1/v1/traces"}}
    with FakeJournal(tmp_path / "journal") as fake:
        (tmp_path / "relay.log").touch()
        found = (tmp_path / "relay.log").stat()
        stream = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        relay = Relay(tmp_path, config, environ=stream, command=patched(tmp_path, patch))
        with relay:
            assert relay.post(request_of(span_ids(1)))[0] == 200
            entries: list[dict[str, str]] = []
            while not entries or entries[-1]["EVENT"] != "destination_waiting":
                entries.append(fake.entry())
        broken = Relay(
            tmp_path,
            settings="[buffer]\nmax_siez = 1",
            environ=stream,
            command=patched(tmp_path, patch),
        )
        fake.entries()
        broken.start(wait=False)
        assert broken.wait(20) == 2
        refused = fake.entry()

        assert relay.log() == ""
        assert entries[0]["EVENT"] == "ready"
        assert entries[0]["PRIORITY"] == "6"
        assert entries[-1]["MESSAGE"].startswith("destination_waiting gone: ")
        assert entries[-1]["DESTINATION"] == "gone"
        assert entries[-1]["PRIORITY"] == "4"
        assert refused["EVENT"] == "not_started"
        assert refused["PRIORITY"] == "3"
        assert "max_siez" in refused["MESSAGE"]
