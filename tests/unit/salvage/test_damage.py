"""Bytes that are not those that were written: rows, ranges, pages, files that are not ours."""

import sqlite3
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

from relay.buffer.sqlite import writer as writer_module
from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable
from relay.model.records import DeadLetter, Encoding
from relay.salvage.salvage import Salvage
from tests.unit.buffer.making import (
    NOW_NS,
    eventually,
    noise,
    opened,
    piece,
    rejected_span,
    request,
    take,
    take_all,
    trace_id,
)

pytestmark = pytest.mark.anyio


def change(state_dir: Path, sql: str) -> None:
    connection = apsw.Connection(str(state_dir / "relay.db"))
    connection.execute(sql)
    connection.close()


RENAME_ROWS = """
PRAGMA writable_schema = 1;
UPDATE sqlite_schema SET name = 'rxws', tbl_name = 'rxws', sql = replace(sql, ' rows ', ' rxws ')
 WHERE name = 'rows';
"""


async def three_rows(state_dir: Path) -> None:
    async with opened(state_dir) as buffer:
        buffer.consumer("a")
        for number in (1, 2, 3):
            await buffer.append(request(piece(b'{"n":%d}' % number)))


@pytest.mark.parametrize(
    "damage",
    [
        "body = x'00112233'",
        "body = zeroblob(length(body))",
        "body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB)",
        "spans = spans + 1",
        "encoding = 2",
        "encoding = 9",
        "received_ns = received_ns + 1",
        "parts = x''",
        "flags = 1",
        "raw_bytes = 1099511627776",
        "spans = 'many'",
    ],
)
async def test_damaged_row_becomes_a_dead_letter_and_the_others_go_on(
    tmp_path: Path, damage: str
) -> None:
    await three_rows(tmp_path)
    change(tmp_path, f"UPDATE rows SET {damage} WHERE id = 2")  # noqa: S608 - our own words
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        taken = await take(backlog, one_encoding=False)
        later = await backlog.take(max_bytes=1 << 20, max_items=100, one_encoding=False)
        await buffer.flush()
        letters = await buffer.dead_letters.newest()

    rows = [*taken.rows, *(later.rows if later else ())]
    assert [row.body for row in rows] == [b'{"n":1}', b'{"n":3}']
    assert [(each.letter.reason, each.letter.row) for each in letters] == [("damaged_on_disk", 2)]
    assert letters[0].letter.destination == "a"


async def test_damaged_row_is_settled_even_when_it_stands_alone(tmp_path: Path) -> None:
    await three_rows(tmp_path)
    change(tmp_path, "UPDATE rows SET checksum = checksum + 1")
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        assert await backlog.take(max_bytes=1 << 20, max_items=100) is None
        assert backlog.statistics().owed_items == 0
        await buffer.flush()
        letters = await buffer.dead_letters.newest()
    async with opened(tmp_path) as buffer:
        assert await buffer.consumer("a").take(max_bytes=1, max_items=1) is None

    assert {stored.letter.body for stored in letters} == {b'{"n":%d}' % n for n in (1, 2, 3)}


async def test_overwritten_bytes_of_the_file_never_pass_as_a_body(tmp_path: Path) -> None:
    bodies = [noise(40_000, seed) for seed in range(20)]
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        for body in bodies:
            await buffer.append(request(piece(body)))
    path = tmp_path / "relay.db"
    content = bytearray(path.read_bytes())
    at = content.index(bodies[7][1000:1100])
    content[at : at + 64] = bytes(64)
    path.write_bytes(content)
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        found = await take_all(backlog)
        await buffer.flush()
        letters = await buffer.dead_letters.newest()

    assert found == bodies[:7] + bodies[8:]
    assert len(letters) == 1


async def test_damaged_ranges_are_owed_from_the_beginning(tmp_path: Path) -> None:
    await three_rows(tmp_path)
    change(tmp_path, "UPDATE destinations SET ranges = zeroblob(9)")
    async with opened(tmp_path) as buffer:
        assert len(await take_all(buffer.consumer("a"))) == 3


async def test_damaged_dead_letter_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(rejected=(rejected_span(), rejected_span())))
    change(tmp_path, "UPDATE dead_letters SET words = 'other' WHERE id = 1")
    change(tmp_path, "UPDATE dead_letters SET body = x'00' WHERE id = 2")
    async with opened(tmp_path) as buffer:
        assert [stored.is_damaged for stored in await buffer.dead_letters.newest()] == [True, True]


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"SQLite format 3\0" + bytes(9000)])
async def test_file_that_is_no_database_is_set_aside_and_a_new_one_begun(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "relay.db").write_bytes(content)
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"new")))
        taken = await take(backlog)
        aside = set_aside(tmp_path, "corrupt-*")

    assert [path.read_bytes() for path in aside] == [content]
    assert taken.rows[0].body == b"new"
    assert taken.rows[0].row > 10**12


async def test_database_of_another_program_is_set_aside(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "relay.db")
    other.execute("CREATE TABLE theirs (a)")
    other.close()
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece()))

        assert len(set_aside(tmp_path, "corrupt-*")) == 1


async def test_newer_schema_is_set_aside_untouched(tmp_path: Path) -> None:
    await three_rows(tmp_path)
    change(tmp_path, "PRAGMA user_version = 99")
    content = (tmp_path / "relay.db").read_bytes()
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece()))
        aside = set_aside(tmp_path, "schema-99-*")
        assert buffer.statistics().last_row > 3

    assert [path.read_bytes() for path in aside] == [content]


async def test_file_found_corrupt_while_reading_is_replaced_and_ids_go_on(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.set_paused(buffer.consumer("a").name, is_paused=True)
        for seed in range(200):
            await buffer.append(request(piece(noise(3000, seed))))
    path = tmp_path / "relay.db"
    content = bytearray(path.read_bytes())
    content[40 * 4096 : 200 * 4096] = b"\xff" * (160 * 4096)
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        path.write_bytes(content)
        while buffer._ledger.generation == 0:
            with suppress(BufferUnavailable):  # between the old file and the new one
                await backlog.take(max_bytes=1 << 16, max_items=10_000)
        await buffer.append(request(piece(b"after")))
        taken = await take(backlog)

        assert backlog.is_paused
        assert len(set_aside(tmp_path, "corrupt-*")) == 1
        assert [row.body for row in taken.rows] == [b"after"]
        assert taken.rows[0].row > 200


async def test_database_that_is_removed_under_us_refuses_until_it_is_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece()))
        path, hidden = tmp_path / "relay.db", tmp_path / "hidden"
        path.rename(hidden)
        buffer._writer.lifecycle._next_check = 0.0
        with pytest.raises(BufferUnavailable, match="removed"):
            await buffer.append(request(piece()))
        assert not buffer.statistics().is_writable
        hidden.rename(path)
        await eventually(lambda: buffer.statistics().is_writable)
        await buffer.append(request(piece()))

        assert buffer.statistics().rows == 2


async def test_file_found_corrupt_when_it_is_opened_is_set_aside_before_anybody_waits(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.set_paused(buffer.consumer("a").name, is_paused=True)
        for seed in range(200):
            await buffer.append(request(piece(noise(3000, seed))))
    path = tmp_path / "relay.db"
    content = bytearray(path.read_bytes())
    content[2 * 4096 : 200 * 4096] = b"\xff" * (198 * 4096)
    path.write_bytes(content)
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece(b"after")))

        assert [each.read_bytes() for each in set_aside(tmp_path, "corrupt-*Z")] == [content]
        assert buffer.last_row > 200


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE rows SET rows_before = 'x', spans_before = x'00', bytes_before = 1.5 WHERE id = 1",
        "UPDATE rows SET received_ns = 'long ago' WHERE id = 1",
        "UPDATE rows SET spans_before = 9223372036854775807 WHERE id = 3",
        "UPDATE totals SET rows = 'x', gone_spans = -1",
        "UPDATE sqlite_sequence SET seq = 'x'",
        "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'rows'",
        "UPDATE destinations SET paused = 'no'",
    ],
)
async def test_values_that_cannot_be_leave_the_file_in_use(tmp_path: Path, damage: str) -> None:
    await three_rows(tmp_path)
    change(tmp_path, damage)
    async with opened(tmp_path) as buffer:
        found = await take_all(buffer.consumer("a"))
        await buffer.append(request(piece(b"new")))
        await buffer.flush()
        assert not set_aside(tmp_path, "corrupt-*")
        assert buffer.last_row == 4
        assert len(found) + len(await buffer.dead_letters.newest()) == 3


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE dead_letters SET stored_bytes = 'x', destination = x'ff'",
        "UPDATE dead_letters SET set_aside_ns = 'x'",
        RENAME_ROWS,
    ],
)
async def test_whatever_is_hit_it_starts_and_takes_requests(tmp_path: Path, damage: str) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        await buffer.append(request(piece(b"old"), rejected=(rejected_span(),)))
    change(tmp_path, damage)
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await Salvage(buffer, Counters()).read_back()
        await buffer.append(request(piece(b"new")))
        await eventually(lambda: buffer.statistics().is_writable)
        await Salvage(buffer, Counters()).read_back()

        assert sorted(await take_all(backlog)) == [b"new", b"old"]


async def test_dead_letter_of_a_damaged_row_names_its_traces(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        await buffer.append(request(piece(b"one", traces=(7, 8))))
    change(tmp_path, "UPDATE rows SET body = x'00'")
    async with opened(tmp_path) as buffer:
        assert await buffer.consumer("a").take(max_bytes=1000, max_items=10) is None
        await buffer.flush()
        (stored,) = await buffer.dead_letters.newest()
        places = await buffer.traces.find((8).to_bytes(16, "big"))

        assert stored.letter.trace_ids == trace_id(7) + trace_id(8)
        told = [place.dead_letter for place in places if place.dead_letter is not None]
        assert [(each.reason, each.row) for each in told] == [("damaged_on_disk", 1)]
        became = [(each.state, each.status) for place in places for each in place.deliveries]
        assert became == [("set_aside", 0)]
        assert not set_aside(tmp_path, "corrupt-*")


async def test_rows_that_were_deleted_in_order_are_no_damage(tmp_path: Path) -> None:
    """A destination that begins at the beginning is owed places whose rows have gone."""
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        a = buffer.consumer("a")
        for number in range(1, 8):
            await buffer.append(request(piece(b"%d" % number)))
        held = [await take(a, max_items=1) for _ in range(7)]
        for taken in held[1:5]:
            a.settle(taken, status=200, at_ns=NOW_NS)
        await buffer.flush()
        await eventually(lambda: buffer.statistics().rows == 3)
        late = buffer.consumer("late", "beginning")

        assert await take_all(late) == [b"1", b"6", b"7"]
        assert not set_aside(tmp_path, "corrupt-*")


async def test_wal_without_its_database_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "relay.db-wal").write_bytes(b"rows of somebody" * 100)
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece()))

        assert len(set_aside(tmp_path, "corrupt-*-wal")) == 1


def set_aside(state_dir: Path, pattern: str) -> list[Path]:
    return list(state_dir.glob(f"relay.db.{pattern}"))


class BrokenDisk(apsw.VFS):
    """A disk that refuses writes while it is told to."""

    def __init__(self, name: str) -> None:
        self.error: type[Exception] | None = None
        self.refusals = 0
        super().__init__(name, "")

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return BrokenFile(self, name, flags)


class BrokenFile(apsw.VFSFile):
    def __init__(self, disk: BrokenDisk, name: object, flags: list[int]) -> None:
        super().__init__("", name, flags)  # type: ignore[arg-type]
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._disk.error is not None:
            self._disk.refusals += 1
            raise self._disk.error
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._disk.error is not None:
            self._disk.refusals += 1
            raise self._disk.error
        super().xSync(flags)


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError, apsw.ReadOnlyError])
async def test_disk_that_fails_refuses_and_comes_back_by_itself(
    tmp_path: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_PROBE_SECONDS", 0.02)
    disk = BrokenDisk(f"broken-{error.__name__}")
    async with opened(tmp_path, vfs=f"broken-{error.__name__}") as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"before")))
        taken = await take(backlog)
        disk.error = error
        with pytest.raises(BufferUnavailable):
            await buffer.append(request(piece(b"during")))
        seen = disk.refusals
        await eventually(lambda: disk.refusals >= seen + 3)
        assert not buffer.statistics().is_writable
        backlog.settle(taken, status=200, at_ns=NOW_NS)
        disk.error = None
        await eventually(lambda: buffer.statistics().is_writable)
        await buffer.append(request(piece(b"after")))
        bodies = await take_all(backlog)

    assert b"before" not in bodies
    assert bodies[-1] == b"after"


async def test_what_was_settled_while_the_disk_failed_is_written_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_PROBE_SECONDS", 0.02)
    disk = BrokenDisk("broken-moves")
    async with opened(tmp_path, vfs="broken-moves", flush_seconds=60) as buffer:
        backlog = buffer.consumer("a")
        for number in (1, 2, 3):
            await buffer.append(request(piece(b"%d" % number)))
        disk.error = apsw.IOError
        for number in (1, 2):
            taken = await take(backlog, max_items=1)
            letter = DeadLetter("a", "upstream_partial", f"no {number}", 1, Encoding.JSON, b"{}")
            backlog.settle_with(taken, [letter], status=200, at_ns=NOW_NS + number * 10**10)
            with pytest.raises(BufferUnavailable):
                await buffer.append(request(piece()))
        disk.error = None
        await eventually(lambda: buffer.statistics().is_writable)
        await buffer.flush()
        words = [stored.letter.words for stored in await buffer.dead_letters.newest()]
    async with opened(tmp_path) as buffer:
        bodies = await take_all(buffer.consumer("a"))

    assert words == ["no 2", "no 1"]
    assert bodies[0] == b"3"


async def test_file_found_corrupt_when_it_is_opened_again_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_PROBE_SECONDS", 0.02)
    disk = BrokenDisk("broken-again")
    async with opened(tmp_path, vfs="broken-again") as buffer:
        backlog = buffer.consumer("a")
        await buffer.set_paused(backlog.name, is_paused=True)
        await buffer.append(request(piece(b"before")))
        disk.error = apsw.IOError
        with pytest.raises(BufferUnavailable):
            await buffer.append(request(piece(b"during")))
        path = tmp_path / "relay.db"
        path.write_bytes(b"x" * path.stat().st_size)
        (tmp_path / "relay.db-wal").write_bytes(b"")
        disk.error = None
        await eventually(lambda: bool(set_aside(tmp_path, "corrupt-*")))
        await eventually(lambda: buffer.statistics().is_writable)
        await buffer.append(request(piece(b"after")))
        bodies = await take_all(backlog)

    assert bodies == [b"after"]
    assert backlog.is_paused


async def test_torn_end_of_the_wal_that_nobody_was_promised_is_no_damage(tmp_path: Path) -> None:
    """As after a power loss: the last commit was on its way, and only parts of it are there."""
    running, left = tmp_path / "running", tmp_path / "left"
    async with opened(running) as buffer:
        buffer.consumer("a")
        await buffer.append(request(piece(b"promised")))
        promised = (running / "last-row").read_bytes()
        await buffer.append(request(piece(b"on its way")))
        leave_behind(running, left, promised)
    async with opened(left) as buffer:
        assert await take_all(buffer.consumer("a")) == [b"promised"]
        assert buffer.statistics().dead_letters == {}
        assert not set_aside(left, "*")


async def test_hit_in_the_wal_where_something_was_promised_is_damage(tmp_path: Path) -> None:
    running, left = tmp_path / "running", tmp_path / "left"
    async with opened(running) as buffer:
        buffer.consumer("a")
        await buffer.append(request(piece(b"promised")))
        await buffer.append(request(piece(b"this, too")))
        leave_behind(running, left, (running / "last-row").read_bytes())
    async with opened(left) as buffer:
        await Salvage(buffer, Counters()).read_back()
        assert sorted(await take_all(buffer.consumer("a"))) == [b"promised", b"this, too"]
        assert set_aside(left, "*")


def leave_behind(running: Path, left: Path, last_row: bytes) -> None:
    """The files as they are, but for a byte in the last frame of the WAL."""
    left.mkdir()
    wal = bytearray((running / "relay.db-wal").read_bytes())
    wal[-1] ^= 0xFF
    (left / "relay.db-wal").write_bytes(wal)
    (left / "relay.db").write_bytes((running / "relay.db").read_bytes())
    (left / "last-row").write_bytes(last_row)
