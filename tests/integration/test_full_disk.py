"""Real disks that are full, read-only or fail: 503, deliveries go on, and all is well again."""

import errno
import http.client
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from tests.support.disks import MIB, Disk, mounted, needs_root
from tests.support.load import Load, request_of, span_ids
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually

pytestmark = pytest.mark.proofs
KINDS = ["tmpfs", "ext4"]
NO_LIMIT = '[buffer]\nmax_size = "1GiB"\nmin_free = "0B"\nkeep_delivered = "0s"\n'
# The relay on a disk whose writes fail with the errno that stands in a file, while it does.
FAILING = """
import functools, os
import apsw
from relay import daemon
from relay.cli import main

class Vfs(apsw.VFS):
    number = 0
    def __init__(self):
        super().__init__("failing", "")
    def xOpen(self, name, flags):
        return File("", name, flags)
    def xGetLastError(self):
        return self.number, os.strerror(self.number)

class File(apsw.VFSFile):
    def _fail(self):
        try:
            vfs.number = int(open({control!r}).read())
        except (FileNotFoundError, ValueError):
            return
        error = apsw.IOError()
        error.extendedresult = apsw.SQLITE_IOERR_WRITE
        raise error
    def xWrite(self, data, offset):
        self._fail()
        super().xWrite(data, offset)
    def xSync(self, flags):
        self._fail()
        super().xSync(flags)

vfs = Vfs()
daemon.Buffer = functools.partial(daemon.Buffer, vfs="failing")
main()
"""


def post(relay: Relay, body: bytes) -> tuple[int, str | None, str]:
    """Status, Retry-After and message of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", relay.ingest_port, timeout=30)
    try:
        connection.request("POST", "/v1/traces", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        message = json.loads(text).get("message", "") if text else ""
        return response.status, response.getheader("Retry-After"), str(message)
    finally:
        connection.close()


def arrived(upstream: MockCollector) -> set[str]:
    return {span.span_id for span in upstream.journal.spans()}


def is_up(relay: Relay) -> bool:
    try:
        return relay.get("/healthz", parse=False)[0] == 200
    except OSError:
        return False


def config(upstream: MockCollector, **more: Any) -> dict[str, dict[str, Any]]:
    return {"mock": {"endpoint": upstream.endpoint, **more}}


def refusal(relay: Relay) -> tuple[int, str | None, str]:
    """The refusal, once it refuses."""
    found: list[tuple[int, str | None, str]] = []

    def is_refused() -> bool:
        found.append(post(relay, request_of(span_ids(1), padding="x" * 50_000)))
        return found[-1][0] != 200

    eventually(is_refused, what="a refusal")
    return found[-1]


@needs_root
@pytest.mark.parametrize("kind", KINDS)
def test_full_disk_is_503_until_there_is_room_and_deliveries_go_on(
    tmp_path: Path, kind: str
) -> None:
    with mounted(tmp_path / "state", kind, 160 * MIB) as disk, MockCollector() as upstream:
        with Relay(tmp_path, config(upstream), settings=NO_LIMIT) as relay:
            relay.run("destination pause", "mock")
            with Load(relay.ingest_port) as load:
                load.wait_for_more(500)
            before = set(load.acknowledged)
            assert relay.status()["buffer"]["reserve_bytes"] == 32 * MIB
            disk.fill()
            status, retry_after, message = refusal(relay)
            assert (status, retry_after) == (503, "1")
            assert "the file system is full" in message or "quota" in message
            code, text = relay.get("/readyz", parse=False)
            assert code == 503
            assert "make room on it" in text

            # What is kept is delivered, and that it was is written down: by the reserve.
            relay.run("destination resume", "mock")
            eventually(lambda: before <= arrived(upstream), what="what was kept before")
            eventually(lambda: not relay.status()["buffer"]["owed_rows"], what="ranges to move")
            assert not relay.status()["buffer"]["last_error"]

            disk.empty()
            ids = span_ids(3)
            eventually(
                lambda: post(relay, request_of(ids))[0] == 200, seconds=4, what="to be taken again"
            )
            eventually(lambda: set(ids) <= arrived(upstream), what="the new ones")
            eventually(
                lambda: relay.status()["buffer"]["reserve_bytes"] == 32 * MIB,
                what="the reserve to be made again",
            )
            requests = upstream.journal.requests()
            relay.kill()
            relay.start()
            assert relay.destination("mock")["waiting_spans"] == 0
            assert len(upstream.journal.requests()) == len(requests)


@needs_root
def test_load_on_a_disk_that_is_full_time_and_again_loses_nothing(tmp_path: Path) -> None:
    with mounted(tmp_path / "state", "tmpfs", 128 * MIB) as disk, MockCollector() as upstream:
        with Relay(tmp_path, config(upstream), settings=NO_LIMIT) as relay:
            relay.run("destination pause", "mock")
            with Load(relay.ingest_port) as load:
                for _ in range(3):
                    load.wait_for_more(300)
                    disk.fill()
                    eventually(lambda: not relay.is_ready(), what="to be full")
                    disk.empty()
            relay.run("destination resume", "mock")
            eventually(lambda: load.acknowledged <= arrived(upstream), what="all acknowledged")

    assert set(load.statuses) <= {200, 503}
    assert load.statuses[503] > 0


@needs_root
@pytest.mark.parametrize("kind", KINDS)
def test_relay_starts_on_a_full_disk_delivers_and_takes_again(tmp_path: Path, kind: str) -> None:
    with mounted(tmp_path / "state", kind, 160 * MIB) as disk, MockCollector() as upstream:
        relay = Relay(tmp_path, config(upstream), settings=NO_LIMIT)
        with relay:
            relay.run("destination pause", "mock")
            ids = span_ids(50)
            assert post(relay, request_of(ids))[0] == 200
            assert relay.stop() == 0
            disk.fill()

            relay.start(wait=False)
            eventually(lambda: is_up(relay), what="the admin listener")
            status, retry_after, message = post(relay, request_of(span_ids(1)))
            assert (status, retry_after) == (503, "1")
            assert "the file system is full" in message
            relay.run("destination resume", "mock")
            eventually(lambda: set(ids) <= arrived(upstream), what="what was kept")
            disk.empty()
            eventually(lambda: post(relay, request_of(span_ids(1)))[0] == 200, seconds=4)


@needs_root
def test_pages_of_delivered_spans_are_given_to_a_disk_that_is_full(tmp_path: Path) -> None:
    settings = NO_LIMIT.replace('"0s"', '"1h"')
    with mounted(tmp_path / "state", "tmpfs", 128 * MIB) as disk, MockCollector() as upstream:
        with Relay(tmp_path, config(upstream), settings=settings) as relay:
            ids = span_ids(150)
            for span_id in ids:
                padding = "".join(span_ids(1250))
                assert post(relay, request_of([span_id], padding=padding))[0] == 200
            eventually(lambda: set(ids) <= arrived(upstream), what="all of it")
            eventually(lambda: not relay.destination("mock")["waiting_spans"], what="settled")
            assert relay.stop() == 0
            disk.fill()

            relay.start(wait=False)
            eventually(lambda: is_up(relay), what="the admin listener")
            eventually(lambda: post(relay, request_of(span_ids(1)))[0] == 200, what="to take one")
            assert relay.status()["buffer"]["first_row"] > 1


@needs_root
def test_min_free_is_kept_and_named(tmp_path: Path) -> None:
    settings = '[buffer]\nmin_free = "64MiB"\n'
    with mounted(tmp_path / "state", "tmpfs", 256 * MIB) as disk, MockCollector() as upstream:
        with Relay(tmp_path, config(upstream), settings=settings) as relay:
            disk.fill(but_bytes=60 * MIB)
            status, retry_after, message = refusal(relay)
            assert (status, retry_after) == (503, "1")
            assert "min_free is 64MiB" in message
            assert "min_free is 64MiB" in relay.status()["buffer"]["limit"]
            assert "FULL: the file system has " in relay.run("status").stdout
            assert disk.free_bytes() >= 55 * MIB
            disk.empty()
            eventually(lambda: post(relay, request_of(span_ids(1)))[0] == 200, seconds=4)
            assert relay.status()["buffer"]["limit"] == ""


@needs_root
def test_disk_that_turns_read_only_is_503_and_keeps_delivering(tmp_path: Path) -> None:
    with mounted(tmp_path / "state", "ext4", 160 * MIB) as disk, MockCollector() as upstream:
        relay = Relay(tmp_path, config(upstream), settings=NO_LIMIT)
        with relay:
            relay.run("destination pause", "mock")
            ids = span_ids(500)
            assert post(relay, request_of(ids))[0] == 200
            disk.fail()
            status, retry_after, message = refusal(relay)
            assert (status, retry_after) == (503, "1")
            assert "read-only" in message
            code, text = relay.get("/readyz", parse=False)
            assert code == 503
            assert "read-only" in text
            assert "mount it writable" in relay.status()["buffer"]["last_error"]

            relay.signal(9)
            relay.wait()
            relay.start(wait=False)
            assert relay.wait() == 70  # to be started again by systemd
            assert "read-only" in relay.log()[-500:]
            disk.repair()
            relay.start()
            relay.run("destination resume", "mock")
            eventually(lambda: set(ids) <= arrived(upstream), what="all acknowledged")


@needs_root
def test_start_on_a_read_only_disk_says_so_and_may_be_tried_again(tmp_path: Path) -> None:
    with mounted(tmp_path / "state", "tmpfs", 128 * MIB) as disk, MockCollector() as upstream:
        relay = Relay(tmp_path, config(upstream), settings=NO_LIMIT)
        with relay:
            # Before that it may be ready and not heed signals yet.
            eventually(lambda: '"event": "ready"' in relay.log(), what="the whole start")
            assert relay.stop() == 0
            disk.remount("ro")
            relay.start(wait=False)
            assert relay.wait() == 70
            assert "the file system is read-only" in relay.log()
            assert "Traceback" not in relay.log()
            disk.remount("rw")
            relay.start()
            assert post(relay, request_of(span_ids(1)))[0] == 200


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EIO, "the disk fails"),
        (errno.EROFS, "read-only"),
        (errno.EDQUOT, "quota"),
        (errno.ENOSPC, "the file system is full"),
    ],
)
def test_disk_that_fails_is_503_and_well_again_by_itself(
    tmp_path: Path, number: int, words: str
) -> None:
    control = tmp_path / "control"
    with MockCollector() as upstream:
        command = ("-c", FAILING.format(control=str(control)))
        with Relay(tmp_path, config(upstream), settings=NO_LIMIT, command=command) as relay:
            with Load(relay.ingest_port) as load:
                load.wait_for_more(200)
                control.write_text(str(number))
                eventually(lambda: not relay.is_ready(), what="not to be ready")
                status, retry_after, message = post(relay, request_of(span_ids(1)))
                assert (status, retry_after) == (503, "1")
                assert words in message
                assert words in relay.get("/readyz", parse=False)[1]
                assert words in relay.status()["buffer"]["last_error"]
                control.unlink()
                load.wait_for_more(200, seconds=5)
            eventually(lambda: load.acknowledged <= arrived(upstream), what="all acknowledged")
            assert not relay.status()["buffer"]["last_error"]
            assert relay.log().count("buffer_disk_error") < 5

    assert set(load.statuses) <= {200, 503}


def test_what_is_kept_is_delivered_while_the_disk_takes_nothing(tmp_path: Path) -> None:
    control = tmp_path / "control"
    command = ("-c", FAILING.format(control=str(control)))
    with (
        MockCollector(port=free_port()) as upstream,
        Relay(tmp_path, config(upstream), settings=NO_LIMIT, command=command) as relay,
    ):
        upstream.stop()
        ids = span_ids(2000)
        for at in range(0, len(ids), 100):
            assert post(relay, request_of(ids[at : at + 100], padding="x" * 2000))[0] == 200
        control.write_text(str(errno.EIO))
        refusal(relay)
        upstream.start()
        relay.signal(signal.SIGHUP)
        eventually(lambda: set(ids) <= arrived(upstream), what="what is kept")
        control.unlink()
        eventually(lambda: post(relay, request_of(span_ids(1)))[0] == 200, seconds=5)
        eventually(lambda: not relay.destination("mock")["waiting_spans"], what="all settled")


def test_disk_helper_fills_to_the_last_byte(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    with mounted(tmp_path / "d", "tmpfs", 8 * MIB) as disk:
        assert isinstance(disk, Disk)
        disk.fill()
        with pytest.raises(OSError, match="No space"):
            (tmp_path / "d" / "more").write_bytes(b"x" * 4096)
        disk.empty()
        (tmp_path / "d" / "more").write_bytes(b"x" * 4096)
