"""A copy of the buffer: what it holds, what it owes, and that no id comes a second time."""

import asyncio
import shutil
from pathlib import Path

import anyio.from_thread
import anyio.to_thread
import pytest

from relay.model.errors import BufferUnavailable
from relay.offline.check import check
from relay.offline.snapshot import snapshot
from tests.unit.buffer.making import (
    NOW_NS,
    deliver_all,
    eventually,
    noise,
    opened,
    piece,
    rejected_span,
    request,
    take,
    take_all,
)

pytestmark = pytest.mark.anyio


def quietly(_done: int, _total: int) -> None:
    """No progress to show."""


def make(directory: Path) -> None:
    directory.mkdir()


def files_named(directory: Path, pattern: str) -> list[Path]:
    return list(directory.glob(pattern))


async def copied(state_dir: Path, to: Path) -> Path:
    """A state directory with a snapshot of another in it."""
    make(to)
    await anyio.to_thread.run_sync(snapshot, state_dir, to / "relay.db", quietly)
    return to


async def test_everything_that_is_kept_is_in_it(tmp_path: Path) -> None:
    bodies = [noise(20_000, seed) for seed in range(150)]
    async with opened(tmp_path / "one") as buffer:
        a = buffer.consumer("a")
        await buffer.set_paused(buffer.consumer("b").name, is_paused=True)
        await buffer.append(request(rejected=(rejected_span(),)))
        for body in bodies:
            await buffer.append(request(piece(body)))
        taken = await take(a, max_items=5)
        a.settle(taken, status=200, at_ns=NOW_NS)
        await buffer.flush()
        copy = await copied(tmp_path / "one", tmp_path / "two")
    async with opened(copy) as buffer:
        assert await take_all(buffer.consumer("a")) == bodies[5:]
        assert await take_all(buffer.consumer("b")) == bodies
        assert buffer.consumer("b").is_paused
        assert len(await buffer.dead_letters.newest()) == 1
        assert len(await buffer.traces.recent()) == 50
        assert buffer.statistics().rows == 150


async def test_ids_go_on_where_nothing_is_kept_any_more(tmp_path: Path) -> None:
    async with opened(tmp_path / "one", keep_delivered_seconds=0) as buffer:
        a = buffer.consumer("a")
        for _ in range(5):
            await buffer.append(request(piece()))
        await deliver_all(a)
        await buffer.flush()
        await eventually(lambda: buffer.statistics().rows == 0)
        copy = await copied(tmp_path / "one", tmp_path / "two")
    async with opened(copy) as buffer:
        await buffer.append(request(piece(b"next")))
        taken = await take(buffer.consumer("a"))

    assert [row.row for row in taken.rows] == [6]


async def test_rows_that_go_while_it_is_made_are_owed_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.offline.snapshot._ROWS", 10)
    async with opened(tmp_path / "one", keep_delivered_seconds=0, tail_bytes=0) as buffer:
        a = buffer.consumer("a")
        for number in range(40):
            await buffer.append(request(piece(b"%d" % number)))
        await buffer.flush()
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            await deliver_all(a)
            await buffer.flush()
            await eventually(lambda: buffer.statistics().rows == 0)

        def meanwhile(done: int, _total: int) -> None:
            if done == 10:
                anyio.from_thread.run(deliver)

        assert loop is not None
        make(tmp_path / "two")
        target = tmp_path / "two" / "relay.db"
        await anyio.to_thread.run_sync(snapshot, tmp_path / "one", target, meanwhile)
    found = check(tmp_path / "two", quietly)
    async with opened(tmp_path / "two") as buffer:
        bodies = await take_all(buffer.consumer("a"))

    assert found.is_sound
    assert bodies == [b"%d" % number for number in range(10)]


async def test_a_damaged_row_is_copied_as_it_is_and_named(tmp_path: Path) -> None:
    body = noise(5000)
    async with opened(tmp_path / "one") as buffer:
        buffer.consumer("a")
        await buffer.append(request(piece(body)))
        await buffer.append(request(piece(b"good")))
    path = tmp_path / "one" / "relay.db"
    path.write_bytes(path.read_bytes().replace(body[3000:3010], bytes(10)))
    done = snapshot(tmp_path / "one", tmp_path / "copy", quietly)

    assert (done.rows, done.damaged_rows) == (2, [1])


async def test_nothing_is_left_of_a_copy_that_failed(tmp_path: Path) -> None:
    async with opened(tmp_path / "one") as buffer:
        await buffer.append(request(piece()))
    shutil.copy(tmp_path / "one" / "relay.db", tmp_path / "taken")
    before = (tmp_path / "taken").read_bytes()
    with pytest.raises(BufferUnavailable, match="exists"):
        snapshot(tmp_path / "one", tmp_path / "taken", quietly)
    (tmp_path / "one" / "relay.db").write_bytes(b"no database" * 1000)
    with pytest.raises(BufferUnavailable, match="damaged"):
        snapshot(tmp_path / "one", tmp_path / "new", quietly)

    assert (tmp_path / "taken").read_bytes() == before
    assert files_named(tmp_path, "new*") == []
