"""Real disks that are full, read-only or fail: 503, deliveries go on, and all is well again."""

import errno
import http.client
import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from tests.support.disks import MIB, Disk, mounted, needs_root
from tests.support.load import MIXED, SIGNALS, Load, LoadRequest, arrived, nth_request
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually

pytestmark = pytest.mark.proofs
KINDS = ["tmpfs", "ext4"]
_numbers = itertools.count()
NO_LIMIT = '[buffer]\nmax_size = "1GiB"\nmin_free = "0B"\nkeep_delivered = "0s"\n'
# The relay on a disk whose writes fail with the errno that stands in a file, while it does.
FAILING = """
import functools, os
import apsw
from relay import engine
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
engine.Buffer = functools.partial(engine.Buffer, vfs="failing")
main()
"""


def made(items: int = 1, *, padding: str = "") -> LoadRequest:
    """The next request: each signal by turns, in both encodings."""
    return nth_request(next(_numbers), items, padding=padding)


def post(relay: Relay, request: LoadRequest) -> tuple[int, str | None, str]:
    """Status, Retry-After and message of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", relay.ingest_port, timeout=30)
    try:
        headers = {"Content-Type": request.media_type}
        connection.request("POST", request.path, request.body, headers)
        response = connection.getresponse()
        text = response.read()
        # In protobuf the words stand in it as they are.
        return response.status, response.getheader("Retry-After"), text.decode(errors="replace")
    finally:
        connection.close()


def keep(relay: Relay, requests: int, items: int, *, padding_bytes: int = 0) -> set[str]:
    """Post so many requests of so many items; their ids, all answered 200."""
    ids: set[str] = set()
    for _ in range(requests):
        request = made(items, padding=os.urandom(padding_bytes // 2).hex())
        assert post(relay, request)[0] == 200
        ids.update(request.ids)
    return ids


def is_up(relay: Relay) -> bool:
    try:
        return relay.get("/healthz", parse=False)[0] == 200
    except OSError:
        return False


def config(upstream: MockCollector, **more: Any) -> dict[str, dict[str, Any]]:
    return {"mock": {"endpoint": upstream.endpoint, "signals": SIGNALS, **more}}


def refusal(relay: Relay) -> tuple[int, str | None, str]:
    """The refusal, once it refuses."""
    found: list[tuple[int, str | None, str]] = []

    def is_refused() -> bool:
        found.append(post(relay, made(padding="x" * 50_000)))
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
            with Load(relay.ingest_port, kinds=MIXED) as load:
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
            request = made(3)
            eventually(lambda: post(relay, request)[0] == 200, seconds=4, what="to be taken again")
            eventually(lambda: set(request.ids) <= arrived(upstream), what="the new ones")
            eventually(
                lambda: relay.status()["buffer"]["reserve_bytes"] == 32 * MIB,
                what="the reserve to be made again",
            )
            eventually(lambda: not relay.status()["buffer"]["owed_rows"], what="ranges to move")
            requests = upstream.journal.requests()
            relay.kill()
            relay.start()
            assert relay.owed("mock") == 0
            assert len(upstream.journal.requests()) == len(requests)


@needs_root
def test_load_on_a_disk_that_is_full_time_and_again_loses_nothing(tmp_path: Path) -> None:
    with mounted(tmp_path / "state", "tmpfs", 128 * MIB) as disk, MockCollector() as upstream:
        with Relay(tmp_path, config(upstream), settings=NO_LIMIT) as relay:
            relay.run("destination pause", "mock")
            with Load(relay.ingest_port, kinds=MIXED) as load:
                for _ in range(3):
                    load.wait_for_more(300)
                    disk.fill()
                    eventually(lambda: not relay.is_ready(), what="to be full")
                    disk.empty()
            relay.run("destination resume", "mock")
            eventually(
                lambda: load.acknowledged <= arrived(upstream), seconds=90, what="all acknowledged"
            )

    assert set(load.statuses) <= {200, 503}
    assert load.statuses[503] > 0


@needs_root
@pytest.mark.parametrize("kind", KINDS)
def test_relay_starts_on_a_full_disk_delivers_and_takes_again(tmp_path: Path, kind: str) -> None:
    with mounted(tmp_path / "state", kind, 160 * MIB) as disk, MockCollector() as upstream:
        relay = Relay(tmp_path, config(upstream), settings=NO_LIMIT)
        with relay:
            relay.run("destination pause", "mock")
            ids = keep(relay, len(MIXED), 10)
            assert relay.stop() == 0
            disk.fill()

            relay.start(wait=False)
            eventually(lambda: is_up(relay), what="the admin listener")
            status, retry_after, message = post(relay, made())
            assert (status, retry_after) == (503, "1")
            assert "the file system is full" in message
            relay.run("destination resume", "mock")
            eventually(lambda: ids <= arrived(upstream), what="what was kept")
            disk.empty()
            eventually(lambda: post(relay, made())[0] == 200, seconds=4)


@needs_root
def test_pages_of_delivered_spans_are_given_to_a_disk_that_is_full(tmp_path: Path) -> None:
    settings = NO_LIMIT.replace('"0s"', '"1h"')
    with mounted(tmp_path / "state", "tmpfs", 128 * MIB) as disk, MockCollector() as upstream:
        with Relay(tmp_path, config(upstream), settings=settings) as relay:
            ids = keep(relay, 150, 1, padding_bytes=20_000)
            eventually(lambda: ids <= arrived(upstream), what="all of it")
            eventually(lambda: not relay.owed("mock"), what="settled")
            assert relay.stop() == 0
            disk.fill()

            relay.start(wait=False)
            eventually(lambda: is_up(relay), what="the admin listener")
            eventually(lambda: post(relay, made())[0] == 200, what="to take one")
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
            eventually(lambda: post(relay, made())[0] == 200, seconds=4)
            assert relay.status()["buffer"]["limit"] == ""


@needs_root
def test_disk_that_turns_read_only_is_503_and_keeps_delivering(tmp_path: Path) -> None:
    with mounted(tmp_path / "state", "ext4", 160 * MIB) as disk, MockCollector() as upstream:
        relay = Relay(tmp_path, config(upstream), settings=NO_LIMIT)
        with relay:
            relay.run("destination pause", "mock")
            ids = keep(relay, len(MIXED), 100)
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
            eventually(lambda: ids <= arrived(upstream), what="all acknowledged")


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
            assert post(relay, made())[0] == 200


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
            with Load(relay.ingest_port, kinds=MIXED) as load:
                load.wait_for_more(200)
                control.write_text(str(number))
                eventually(lambda: not relay.is_ready(), what="not to be ready")
                status, retry_after, message = post(relay, made())
                assert (status, retry_after) == (503, "1")
                assert words in message
                assert words in relay.get("/readyz", parse=False)[1]
                assert words in relay.status()["buffer"]["last_error"]
                control.unlink()
                load.wait_for_more(200, seconds=5)
            eventually(
                lambda: load.acknowledged <= arrived(upstream), seconds=90, what="all acknowledged"
            )
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
        ids = keep(relay, 20, 100, padding_bytes=2000)
        control.write_text(str(errno.EIO))
        refusal(relay)
        upstream.start()
        relay.signal(signal.SIGHUP)
        eventually(lambda: ids <= arrived(upstream), what="what is kept")
        control.unlink()
        eventually(lambda: post(relay, made())[0] == 200, seconds=5)
        eventually(lambda: not relay.owed("mock"), what="all settled")


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
