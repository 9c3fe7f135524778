"""An fsync that fails, on a disk that then forgets: Linux takes such pages for written."""

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import apsw
import pytest

from relay.buffer.sqlite import schema
from relay.buffer.sqlite import writer as writer_module
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.quarantine import quarantined_files
from relay.model.counters import Counters
from relay.model.errors import BufferDiskError, BufferUnavailable
from tests.support.faulty_vfs import Fault, FaultyVFS
from tests.unit.buffer.making import (
    SETTINGS,
    eventually,
    opened,
    piece,
    request,
    take_all,
)

pytestmark = pytest.mark.anyio

STATE_OF_0_1_0 = Path(__file__).parents[2] / "fixtures" / "state_of_0_1_0.tar.gz"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyVFS]:
    monkeypatch.setattr(writer_module, "_PROBE_SECONDS", 0.02)
    made = FaultyVFS("failed-sync", seed=4, survival=0.3)
    yield made
    made.unregister()


async def test_what_is_acknowledged_behind_a_sync_that_failed_survives_power_loss(
    tmp_path: Path, disk: FaultyVFS
) -> None:
    async with opened(tmp_path / "state", vfs="failed-sync") as buffer:
        buffer.consumer("a")
        await buffer.flush()
        disk.faults = (Fault("sync", disk.counts["sync"] + 1, forgets=True),)
        with pytest.raises(BufferUnavailable):
            await buffer.append(request(piece(b"refused")))
        await eventually(lambda: buffer.statistics().is_writable)
        await buffer.append(request(piece(b"acknowledged")))
        disk.copy_disk(tmp_path / "state", tmp_path / "crashed")

    async with opened(tmp_path / "crashed") as buffer:
        assert b"acknowledged" in await take_all(buffer.consumer("a"))


async def test_rows_of_the_very_first_commit_are_counted_when_its_sync_failed(
    tmp_path: Path, disk: FaultyVFS
) -> None:
    async with opened(tmp_path, vfs="failed-sync") as buffer:
        backlog = buffer.consumer("a")
        await buffer.flush()
        disk.faults = (Fault("sync", disk.counts["sync"] + 1),)
        with pytest.raises(BufferUnavailable):
            await buffer.append(request(piece(b"refused")))
        await eventually(lambda: buffer.statistics().is_writable)

        assert await take_all(backlog) == [b"refused"]
        assert backlog.statistics().owed_items == 1


@pytest.mark.parametrize("n", range(1, 9))
async def test_making_the_file_is_taken_up_again_wherever_it_was_interrupted(
    tmp_path: Path, disk: FaultyVFS, n: int
) -> None:
    disk.faults = (Fault("sync", n, times=3),)
    for _ in range(4):
        buffer = Buffer(tmp_path, SETTINGS, Counters(), vfs="failed-sync")
        try:
            buffer.open()
        except BufferUnavailable:
            continue
        break
    await buffer.append(request(piece(b"kept")))
    bodies = await take_all(buffer.consumer("a"))
    await buffer.close()

    assert b"kept" in bodies


@pytest.mark.parametrize("name", ["last-row.new", "relay.db-wal"])
def test_a_copy_of_the_disk_lets_the_new_sidecar_alone_take_its_place_meanwhile(
    tmp_path: Path, disk: FaultyVFS, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = tmp_path / "state"
    source.mkdir()
    for each in ("relay.db", "last-row", name):
        (source / each).write_bytes(each.encode())
    copyfile = shutil.copyfile

    def late(path: Path, target: Path) -> None:
        if path.name == name:
            path.unlink()
        copyfile(path, target)

    monkeypatch.setattr(shutil, "copyfile", late)
    with nullcontext() if name == "last-row.new" else pytest.raises(FileNotFoundError):
        disk.copy_disk(source, tmp_path / "crashed")
        copied = {path.name: path.read_bytes() for path in (tmp_path / "crashed").iterdir()}
        assert copied == {"relay.db": b"relay.db", "last-row": b"last-row"}


@pytest.mark.parametrize("n", range(1, 25, 5))
async def test_an_upgrade_that_the_disk_refuses_leaves_the_file_as_it_is(
    tmp_path: Path, disk: FaultyVFS, n: int
) -> None:
    with tarfile.open(STATE_OF_0_1_0) as files:
        files.extractall(tmp_path, filter="data")
    disk.faults = (Fault("write", disk.counts["write"] + n),)
    with suppress(BufferDiskError):
        async with opened(tmp_path, vfs="failed-sync"):
            pass

    async with opened(tmp_path) as buffer:
        assert quarantined_files(tmp_path) == []
        assert buffer.statistics().rows == 12
        assert buffer.consumer("b").is_paused
        assert len(await take_all(buffer.consumer("b"))) == 12


def test_what_went_wrong_is_raised_when_sqlite_rolled_back_by_itself() -> None:
    connection = apsw.Connection(":memory:")

    def fail() -> None:
        with schema.transaction(connection):
            connection.execute("ROLLBACK")  # as it does after some errors
            raise apsw.FullError

    with pytest.raises(apsw.FullError):
        fail()
