"""A disk that hangs: who waits is refused in time, who comes is refused at once."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from relay.buffer.sqlite.buffer import Buffer
from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable
from tests.support import hanging_vfs
from tests.unit.buffer.making import SETTINGS, eventually, piece, request, take_all

pytestmark = pytest.mark.anyio
IMPATIENT = replace(SETTINGS, stall_seconds=0.4, patience_seconds=0.6)


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """The disk hangs while this is set."""
    event = threading.Event()
    vfs = hanging_vfs.HangingVFS(event.is_set)
    yield event
    event.clear()
    vfs.unregister()


async def until_stalled(buffer: Buffer, seconds: float = 0.0) -> None:
    await eventually(lambda: buffer.statistics().stalled_seconds > seconds)


async def test_hanging_write_refuses_those_who_wait_and_those_who_come(
    tmp_path: Path, hang: threading.Event
) -> None:
    buffer = Buffer(tmp_path / "state", IMPATIENT, Counters(), vfs=hanging_vfs.NAME)
    buffer.open()
    backlog = buffer.consumer("d")
    await buffer.append(request(piece(b'{"n":"before"}')))
    refused: list[tuple[str, str]] = []

    async def append(name: str) -> None:
        with pytest.raises(BufferUnavailable) as error:
            await buffer.append(request(piece(b'{"n":"%s"}' % name.encode())))
        refused.append((name, error.value.message))

    hang.set()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append, "under way")
            await until_stalled(buffer, 0.1)  # longer than any housekeeping before it
            tasks.start_soon(append, "behind it")
            await until_stalled(buffer, 0.4)
            assert not refused
            await append("too late")
            assert [name for name, _ in refused] == ["too late"]
            assert buffer.statistics().is_stalled
            assert not buffer.statistics().is_writable
    assert "has not finished a write for" in refused[0][1]
    assert {name for name, _ in refused[1:]} == {"under way", "behind it"}
    assert all("did not accept this request within" in words for _, words in refused[1:])

    hang.clear()
    with anyio.fail_after(10):
        await eventually(lambda: buffer.statistics().is_writable)
        await buffer.append(request(piece(b'{"n":"after"}')))
        bodies = b",".join(await take_all(backlog))
    await buffer.close()
    # What was under way is there after all; what only waited behind it was told to come again.
    assert bodies == b'{"n":"before"},{"n":"under way"},{"n":"after"}'


async def test_slow_writes_refuse_nobody(tmp_path: Path, hang: threading.Event) -> None:
    buffer = Buffer(tmp_path / "state", IMPATIENT, Counters(), vfs=hanging_vfs.NAME)
    buffer.open()
    with anyio.fail_after(20):
        for _ in range(3):
            hang.set()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(buffer.append, request(piece()))
                await until_stalled(buffer, 0.2)
                hang.clear()
    assert buffer.statistics().rows == 3
    await buffer.close()
