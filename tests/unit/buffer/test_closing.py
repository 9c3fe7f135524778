"""How a buffer ends: all at once, whoever is in a hurry, and nothing of it goes on."""

import shutil
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.directory import holder_of
from relay.model.counters import Counters
from relay.model.errors import BufferDiskError
from tests.unit.buffer.making import SETTINGS, opened, piece, request

pytestmark = pytest.mark.anyio


async def test_it_is_closed_to_the_end_though_who_closes_it_is_cancelled(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, SETTINGS, Counters())
    buffer.open()
    await buffer.append(request(piece()))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await buffer.close()

    assert holder_of(tmp_path) == ""
    async with opened(tmp_path) as buffer:
        assert buffer.last_row == 1


async def test_who_waits_for_a_failure_waits_on_when_there_was_none(tmp_path: Path) -> None:
    has_returned = False

    async def wait(buffer: Buffer) -> None:
        nonlocal has_returned
        await buffer.wait_failed()
        has_returned = True

    async with anyio.create_task_group() as tasks:
        async with opened(tmp_path) as buffer:
            tasks.start_soon(wait, buffer)
            await anyio.wait_all_tasks_blocked()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    assert not has_returned


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError("full"), BufferDiskError), (ValueError("what"), ValueError)]
)
async def test_directory_is_free_again_when_it_could_not_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]
) -> None:
    buffer = Buffer(tmp_path, SETTINGS, Counters())

    def fail() -> None:
        raise error

    monkeypatch.setattr(buffer._writer, "open", fail)
    with pytest.raises(raised):
        buffer.open()
    async with opened(tmp_path):
        pass


async def test_statistics_of_a_directory_that_has_gone_know_of_no_bytes(tmp_path: Path) -> None:
    unopened = Buffer(tmp_path / "never", SETTINGS, Counters()).statistics()
    async with opened(tmp_path / "state") as buffer:
        await buffer.append(request(piece()))
    shutil.rmtree(tmp_path / "state")
    gone = buffer.statistics()

    for found in (unopened, gone):
        assert (found.wal_bytes, found.file_system_free_bytes) == (0, 0)
        assert not found.is_writable
    assert (unopened.rows, unopened.last_row) == (0, 0)
    assert (gone.rows, gone.last_row) == (1, 1)


async def test_who_was_answered_is_not_watched_any_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for _ in range(3):
            await buffer.append(request(piece()))
        assert buffer._timeout.since == {}


@pytest.mark.parametrize("how", ["paused", "removed"])
async def test_what_a_command_changes_is_on_disk_when_it_returns(tmp_path: Path, how: str) -> None:
    async with opened(tmp_path / "state", flush_seconds=3600) as buffer:
        buffer.consumer("a")
        buffer.consumer("b")
        await buffer.flush()
        if how == "paused":
            await buffer.set_paused("a", is_paused=True)
        else:
            assert await buffer.remove("a")
            assert not await buffer.remove("a")
        (tmp_path / "crashed").mkdir()
        for name in ("relay.db", "relay.db-wal"):
            shutil.copyfile(tmp_path / "state" / name, tmp_path / "crashed" / name)
    async with opened(tmp_path / "crashed") as buffer:
        states = {key.destination: each.is_paused for key, each in buffer.consumers().items()}

    assert states == ({"a": True, "b": False} if how == "paused" else {"b": False})


def test_process_that_fails_before_it_closes_it_ends_all_the_same(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from relay.buffer.settings import BufferSettings\n"
        "from relay.buffer.sqlite.buffer import Buffer\n"
        "from relay.model.counters import Counters\n"
        "Buffer(pathlib.Path(sys.argv[1]), BufferSettings(min_free_bytes=0), Counters()).open()\n"
        "sys.exit(3)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 3
    assert holder_of(tmp_path) == ""
