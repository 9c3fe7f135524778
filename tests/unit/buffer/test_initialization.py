"""Opening: permissions, the lock, what file systems are taken, how the file is made."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest

from relay.buffer.sqlite import directory, schema
from relay.buffer.sqlite import writer as writer_module
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.commands import Corrupt
from relay.model.counters import Counters
from relay.model.errors import BufferLocked, BufferUnavailable
from relay.salvage.salvage import Salvage
from tests.unit.buffer.making import (
    SETTINGS,
    eventually,
    noise,
    opened,
    piece,
    request,
    take_all,
)

pytestmark = pytest.mark.anyio


async def test_everything_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with opened(tmp_path / "new" / "state") as buffer:
            await buffer.append(request(piece()))
            modes = {
                name: stat.S_IMODE((tmp_path / "new" / "state" / name).stat().st_mode)
                for name in ("", "relay.db", "relay.db-wal", "relay.db-shm", "lock")
            }
    finally:
        os.umask(before)

    assert modes.pop("") == 0o700
    assert set(modes.values()) == {0o600}


async def test_file_is_made_as_designed(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        file = buffer._writer.lifecycle.file
        assert file is not None
        pragmas = {
            name: file.connection.pragma(name)
            for name in ("page_size", "auto_vacuum", "secure_delete", "synchronous")
        }
        mode = file.connection.pragma("journal_mode")

    assert pragmas == {"page_size": 4096, "auto_vacuum": 2, "secure_delete": 2, "synchronous": 2}
    assert mode == "wal"


async def test_sync_normal_is_obeyed(tmp_path: Path) -> None:
    async with opened(tmp_path, sync="normal") as buffer:
        file = buffer._writer.lifecycle.file
        assert file is not None
        assert file.connection.pragma("synchronous") == 1


async def test_second_buffer_says_who_holds_the_directory(tmp_path: Path) -> None:
    async with opened(tmp_path):
        second = Buffer(tmp_path, SETTINGS, Counters())
        with pytest.raises(BufferLocked, match=str(os.getpid())):
            second.open()


def test_lock_is_free_again_when_its_holder_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from relay.buffer.settings import BufferSettings\n"
        "from relay.buffer.sqlite.buffer import Buffer\n"
        "from relay.model.counters import Counters\n"
        "Buffer(Path(sys.argv[1]), BufferSettings(), Counters()).open()\n"
        "print('open', flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=-1) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(BufferLocked, match=str(child.pid)):
            Buffer(tmp_path, SETTINGS, Counters()).open()
        child.kill()
        child.wait()
    buffer = Buffer(tmp_path, SETTINGS, Counters())
    buffer.open()
    anyio.run(buffer.close)


def test_directory_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BufferUnavailable, match="file/state"):
        Buffer(tmp_path / "file" / "state", SETTINGS, Counters()).open()


def test_network_file_system_is_refused_and_the_lock_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "file_system_type", lambda _: "nfs4")
    with pytest.raises(BufferUnavailable, match="nfs4"):
        Buffer(tmp_path, SETTINGS, Counters()).open()
    assert not (tmp_path / "lock").exists()


def test_file_system_type_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        f"99 22 0:9 / {tmp_path}/deep/er without the separator\n"
        "98 22 - too short\n"
        f"23 22 0:5 / {tmp_path} rw - nfs4 server:/x rw\n"
        f"24 23 0:6 / {tmp_path}/a\\040b rw - tmpfs tmpfs rw\n"
    )
    assert directory.file_system_type(Path("/"), mounts) == "ext4"
    assert directory.file_system_type(tmp_path / "deep" / "er", mounts) == "nfs4"
    assert directory.file_system_type(tmp_path / "a b", mounts) == "tmpfs"
    assert directory.file_system_type(tmp_path, tmp_path / "absent") == ""


@pytest.mark.alone
async def test_opening_a_large_file_takes_less_than_a_tenth_of_a_second(tmp_path: Path) -> None:
    async with opened(tmp_path, row_bytes=1) as buffer:
        buffer.consumer("a")
        for _ in range(20):
            await buffer.append(request(*[piece(noise(500)) for _ in range(1000)]))
    durations = []
    for _ in range(3):
        buffer = Buffer(tmp_path, SETTINGS, Counters())
        started = time.monotonic()
        buffer.open()
        durations.append(time.monotonic() - started)
        assert buffer.consumer("a").statistics().owed_rows == 20_000
        await buffer.close()

    assert min(durations) < 0.1


def test_buffer_opened_outside_of_a_loop_serves_inside_of_one(tmp_path: Path) -> None:
    for expected in (1, 2):
        buffer = Buffer(tmp_path, SETTINGS, Counters())
        buffer.open()
        backlog = buffer.consumer("a")

        async def serve(buffer: Buffer = buffer) -> None:
            await buffer.append(request(piece()))
            await buffer.close()

        anyio.run(serve)
        assert backlog.statistics().owed_items == expected


async def test_reader_cannot_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        with pytest.raises(BufferUnavailable):
            await buffer._reader.ask(
                lambda connection: connection.execute("DELETE FROM rows").fetchall()
            )


async def test_every_commit_is_synced_once(tmp_path: Path) -> None:
    from tests.support.faulty_vfs import FaultyVFS

    disk = FaultyVFS("counting")
    async with opened(tmp_path, vfs="counting") as buffer:
        await buffer.append(request(piece()))
        before = disk.counts["sync"]
        for _ in range(20):
            await buffer.append(request(piece()))
        syncs = disk.counts["sync"] - before

    assert syncs == 20
    assert apsw.SQLITE_VERSION_NUMBER >= 3_050_000


async def test_a_new_file_that_cannot_be_made_at_once_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The damaged one has gone by our own hand: nobody removed it under us."""
    monkeypatch.setattr(writer_module, "_PROBE_SECONDS", 0.02)
    open_writer, refusals = schema.open_writer, iter([apsw.IOError("no"), OSError(5, "no")])

    def refuse_twice(*arguments: Any, **options: Any) -> apsw.Connection:
        for error in refusals:
            raise error
        return open_writer(*arguments, **options)

    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.set_paused(backlog.name, is_paused=True)
        await buffer.append(request(piece(b"before")))
        monkeypatch.setattr(schema, "open_writer", refuse_twice)
        waiter = buffer._ledger.new_waiter()
        buffer._ledger.commands.put(Corrupt(0, "a page", waiter))
        await waiter
        await eventually(lambda: buffer.statistics().is_writable)
        await buffer.append(request(piece(b"after")))
        await Salvage(buffer, Counters()).read_back()

        assert sorted(await take_all(backlog)) == [b"after", b"before"]
        assert backlog.is_paused


@pytest.mark.parametrize("name", ["deliveries", "deliveries_by_end"])
async def test_damage_that_is_met_just_after_opening_is_no_reason_not_to_start(
    tmp_path: Path, name: str
) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.set_paused(buffer.consumer("a").name, is_paused=True)
        await buffer.append(request(piece(b"kept")))
    connection = apsw.Connection(str(tmp_path / "relay.db"))
    sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
    page = connection.execute(sql, (name,)).get
    assert isinstance(page, int)
    connection.close()
    with (tmp_path / "relay.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 64)
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await Salvage(buffer, Counters()).read_back()
        await buffer.append(request(piece(b"new")))

        assert await take_all(backlog) == [b"kept", b"new"]
        assert backlog.is_paused
