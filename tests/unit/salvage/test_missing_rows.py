"""Rows that a reader does not find although they were never deleted: none goes without a word."""

import sqlite3
from pathlib import Path

import anyio
import apsw
import pytest

from relay.buffer.sqlite import schema
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.reader import RowMissing, read_rows
from relay.buffer.sqlite.types import Budget
from relay.model.counters import Counters
from relay.model.records import OwedRange, Position, Signal
from relay.salvage.salvage import Salvage
from tests.unit.buffer.making import NOW_NS, noise, opened, piece, request

pytestmark = pytest.mark.anyio

PAGE = 4096


def body(number: int) -> bytes:
    return b"%d:%s" % (number, noise(900, number))


def budget() -> Budget:
    return Budget(1 << 20, 100, None, one_encoding=False, is_first=True)


async def make(state_dir: Path, rows: int) -> None:
    async with opened(state_dir) as buffer:
        buffer.consumer("a")
        for number in range(1, rows + 1):
            await buffer.append(request(piece(body(number))))


def root_of_rows(state_dir: Path) -> int:
    """Where the root page of table rows begins."""
    connection = sqlite3.connect(state_dir / "relay.db")
    (page,) = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'rows'"
    ).fetchone()
    connection.close()
    return (int(page) - 1) * PAGE


def forget_third(state_dir: Path, place: int) -> None:
    """Let the page at `place`, which has three rows, say that it has two."""
    with (state_dir / "relay.db").open("r+b") as file:
        file.seek(place + 3)
        assert file.read(2) == bytes((0, 3))
        file.seek(place + 3)
        file.write(bytes((0, 2)))


async def deliver(buffer: Buffer, name: str) -> list[bytes]:
    """Everything owed, in small steps, and what is read back meanwhile."""
    backlog = buffer.consumer(name)
    bodies: list[bytes] = []
    with anyio.fail_after(20):
        while backlog.has_more:
            taken = await backlog.take(max_bytes=1000, max_items=1)
            if taken is not None:
                bodies += [row.body for row in taken.rows]
                backlog.settle(taken, status=200, at_ns=NOW_NS)
            await Salvage(buffer, Counters()).read_back()
    return bodies


async def test_pages_that_the_writer_has_in_memory_do_not_speak_for_those_on_disk(
    tmp_path: Path,
) -> None:
    await make(tmp_path, 3)
    place = root_of_rows(tmp_path)
    async with opened(tmp_path) as buffer:
        forget_third(tmp_path, place)

        assert sorted(await deliver(buffer, "a")) == [body(1), body(2), body(3)]


async def test_what_is_owed_since_a_moment_is_missed_although_the_disk_does_not_know_it_yet(
    tmp_path: Path,
) -> None:
    await make(tmp_path, 3)
    place = root_of_rows(tmp_path)
    async with opened(tmp_path) as buffer:
        assert len(await deliver(buffer, "a")) == 3
    async with opened(tmp_path, flush_seconds=60) as buffer:
        await buffer.flush()  # from now on what changes waits for its 60 s
        forget_third(tmp_path, place)
        buffer.consumer("late", "beginning")

        assert sorted(await deliver(buffer, "late")) == [body(1), body(2), body(3)]


async def test_rows_that_a_walk_meets_and_a_look_up_does_not_are_no_proper_gap(
    tmp_path: Path,
) -> None:
    """A key above the leaves was hit: whoever looks for a row of the second is led to the third."""
    await make(tmp_path, 40)
    root = root_of_rows(tmp_path)
    with (tmp_path / "relay.db").open("r+b") as file:
        file.seek(root)
        page = file.read(PAGE)
        assert page[0] == 5  # inside a table: a child's page and a key in each cell
        first, second = (int.from_bytes(page[at : at + 2], "big") + 4 for at in (12, 14))
        file.seek(root + second)
        file.write(page[first : first + 1])

    async with opened(tmp_path) as buffer:
        assert sorted(await deliver(buffer, "a")) == sorted(body(each) for each in range(1, 41))


async def test_rows_that_go_between_their_sizes_and_their_bodies_are_missed(
    tmp_path: Path,
) -> None:
    await make(tmp_path, 4)
    connection = schema.open_reader(tmp_path / "relay.db", vfs=None)

    def lose(_cursor: apsw.Cursor, sql: str, _bindings: object) -> bool:
        if sql.startswith("SELECT * FROM rows"):
            other = sqlite3.connect(tmp_path / "relay.db", isolation_level=None)
            other.execute("DELETE FROM rows WHERE id IN (2, 3)")
            other.close()
        return True

    connection.exec_trace = lose
    with pytest.raises(RowMissing) as missing:
        read_rows(connection, Signal.TRACES, 1, 4, budget())
    connection.close()

    assert missing.value.gaps == (OwedRange(Position(2), Position(4)),)


async def test_one_gap_that_is_proper_does_not_excuse_another(tmp_path: Path) -> None:
    await make(tmp_path, 5)
    with sqlite3.connect(tmp_path / "relay.db") as other:
        other.execute("DELETE FROM rows WHERE id IN (2, 4)")
    other.close()
    connection = schema.open_reader(tmp_path / "relay.db", vfs=None)
    proper = (OwedRange(Position(2), Position(3)),)
    with pytest.raises(RowMissing) as missing:
        read_rows(connection, Signal.TRACES, 1, 5, budget(), may_skip=proper)
    connection.close()

    assert missing.value.gaps == (OwedRange(Position(4), Position(5)),)
