"""Jobs: one transaction each in the writer's thread; rows that come again to some only."""

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from relay.buffer.sqlite import schema
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.rows import Group, build_group
from relay.buffer.sqlite.schema import fetch_value
from relay.buffer.sqlite.transactions import Readmitted, Transaction
from relay.model.errors import BufferFull, ConfigError
from relay.model.records import Request
from tests.unit.buffer.making import (
    SETTINGS,
    deliver_all,
    noise,
    opened,
    piece,
    request,
    take,
    take_all,
)

pytestmark = pytest.mark.anyio


class Readmit(Transaction[int]):
    """Appends requests for some destinations alone."""

    def __init__(self, *requests: Request, to: set[str], need_bytes: int = 1000) -> None:
        self._requests = requests
        self._to = frozenset(to)
        self._group = Group()
        self._need_bytes = need_bytes

    @property
    def need_bytes(self) -> int:
        return self._need_bytes

    def run(self, file: LogFile, *, now_ns: int) -> int:
        self._group = build_group(
            self._requests, after_row=file.last_row, totals=file.totals, settings=SETTINGS
        )
        file.readmit(self._group, self._to, now_ns=now_ns)
        file.add_counter("readmitted", len(self._group.rows))
        return len(self._group.rows)

    def readmitted(self) -> list[Readmitted]:
        return [Readmitted(self._group, self._to)]


class Call(Readmit):
    """Runs what it is given, for the effect."""

    def __init__(self, call: Callable[[LogFile], int]) -> None:
        super().__init__(to=set())
        self._call = call

    def run(self, file: LogFile, *, now_ns: int) -> int:
        return self._call(file)


def as_after_a_crash(state_dir: Path) -> Path:
    """A copy of what is on disk this moment, whatever is written later."""
    crashed = state_dir / "crashed"
    crashed.mkdir()
    for name in ("relay.db", "relay.db-wal"):
        (crashed / name).write_bytes((state_dir / name).read_bytes())
    return crashed


async def test_rows_that_come_again_are_owed_to_those_named_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        one, two = buffer.consumer("one"), buffer.consumer("two")
        await buffer.append(request(piece(b"first")))

        rows = await buffer._ledger.transact(Readmit(request(piece(b"again")), to={"two"}))
        await buffer.append(request(piece(b"last")))

        assert rows == 1
        assert await take_all(one) == [b"first", b"last"]
        assert await take_all(two) == [b"first", b"again", b"last"]
        assert one.statistics().owed_rows == 2
        assert two.statistics().owed_rows == 3


async def test_rows_that_come_again_stay_with_those_named_over_a_crash(tmp_path: Path) -> None:
    async with opened(tmp_path, flush_seconds=60.0) as buffer:
        buffer.consumer("one")
        buffer.consumer("two")
        await buffer.flush()
        await buffer._ledger.transact(Readmit(request(piece(b"again")), to={"two"}))
        crashed = as_after_a_crash(tmp_path)

    async with opened(crashed) as buffer:
        assert await take_all(buffer.consumer("one")) == []
        assert await take_all(buffer.consumer("two")) == [b"again"]


async def test_a_job_sees_what_moved_before_it(tmp_path: Path) -> None:
    async with opened(tmp_path, flush_seconds=60.0) as buffer:
        one = buffer.consumer("one")
        await buffer.append(request(piece()))
        await buffer.flush()
        one.settle(await take(one), status=200, at_ns=1)

        first_owed = await buffer._ledger.transact(
            Call(lambda file: file.destinations["one"].ranges[0].start.row)
        )

        assert first_owed == 2


async def test_a_job_that_raises_changes_nothing_and_says_why(tmp_path: Path) -> None:
    def fail(file: LogFile) -> int:
        file.add_counter("never", 1)
        file.readmit(
            build_group(
                [request(piece())], after_row=file.last_row, totals=file.totals, settings=SETTINGS
            ),
            frozenset({"one"}),
            now_ns=0,
        )
        raise ConfigError("not like this")

    async with opened(tmp_path) as buffer:
        one = buffer.consumer("one")
        with pytest.raises(ConfigError, match="not like this"):
            await buffer._ledger.transact(Call(fail))
        await buffer.append(request(piece(b"after")))

        assert await take_all(one) == [b"after"]
        assert one.statistics().owed_rows == 1
        assert (
            await buffer._reader.ask(lambda it: fetch_value(it, "SELECT count(*) FROM tallies"))
            == 0
        )
        assert (await take(one)).rows[0].row == 1


async def test_a_job_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size_bytes=2 << 20) as buffer:
        buffer.consumer("one")
        with pytest.raises(BufferFull):
            await buffer._ledger.transact(
                Readmit(request(piece(noise(3 << 20))), to={"one"}, need_bytes=3 << 20)
            )
        assert await deliver_all(buffer.consumer("one")) == 0


async def test_a_file_of_the_first_version_is_taken_up(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("one")
        await buffer.append(request(piece(b"old")))
    with apsw.Connection(str(tmp_path / "relay.db")) as connection:
        for table in ("history", "tallies", "salvages", "signal_runs"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("ALTER TABLE dead_letters DROP COLUMN signal")
        connection.pragma("user_version", 1)
    connection.close()

    async with opened(tmp_path) as buffer:
        assert await take_all(buffer.consumer("one")) == [b"old"]
        version = await buffer._reader.ask(lambda it: it.pragma("user_version"))
        assert version == schema.SCHEMA_VERSION
        assert await buffer._ledger.transact(Readmit(request(piece()), to={"one"})) == 1
