"""Damage in a log of several signals: nothing that is owed is passed over, nothing else named."""

from pathlib import Path

import apsw
import pytest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.sqlite.buffer import Buffer
from relay.model.counters import Counters
from relay.model.records import Signal
from relay.salvage.salvage import QuarantinedFile, Salvage
from tests.unit.buffer.making import (
    deliver_all,
    eventually,
    opened,
    own_copy,
    piece,
    request,
    take_all,
)

pytestmark = pytest.mark.anyio

TRACES, LOGS, METRICS = Signal
SPANS = [b"t%d" % number for number in range(20)]
RECORDS = [b"l%d" % number for number in range(20)]


async def fill(state_dir: Path, *, takes_logs: bool = True, keep_seconds: float = 3600) -> None:
    """Rows of spans and of log records in turn: 1 is of spans, 2 of logs, and so on to 40."""
    async with opened(state_dir, keep_delivered_seconds=keep_seconds) as buffer:
        buffer.consumer("a")
        if takes_logs:
            buffer.consumer("a", signal=LOGS)
        for span, record in zip(SPANS, RECORDS, strict=True):
            await buffer.append(request(piece(span)))
            await buffer.append(request(piece(record, signal=LOGS)))
        if keep_seconds == 0:
            await deliver_all(buffer.consumer("a", signal=LOGS))
            await eventually(lambda: buffer.statistics().rows == 20)


def change(state_dir: Path, *statements: str) -> None:
    connection = apsw.Connection(str(state_dir / "relay.db"))
    for statement in statements:
        connection.execute(statement)
        assert connection.changes()
    connection.close()


def lose_first_pages(state_dir: Path) -> None:
    with (state_dir / "relay.db").open("r+b") as file:
        file.write(b"\xff" * 4096)


async def read_back(buffer: Buffer) -> QuarantinedFile:
    salvage = Salvage(buffer, Counters())
    await salvage.read_back()
    await buffer.flush()
    (found,) = salvage.quarantined
    return found


async def test_all_that_is_owed_of_each_signal_comes_again(tmp_path: Path) -> None:
    await fill(tmp_path)
    lose_first_pages(tmp_path)
    async with opened(tmp_path) as buffer:
        found = await read_back(buffer)
        spans = await take_all(buffer.consumer("a"))
        records = await take_all(buffer.consumer("a", signal=LOGS))
    assert (spans, records) == (SPANS, RECORDS)
    assert "nothing that was owed is lost" in found.words


async def test_what_went_of_another_signal_is_not_called_lost(tmp_path: Path) -> None:
    await fill(tmp_path, keep_seconds=0)
    lose_first_pages(tmp_path)
    async with opened(tmp_path) as buffer:
        found = await read_back(buffer)
        assert await take_all(buffer.consumer("a")) == SPANS
        assert await take_all(buffer.consumer("a", signal=LOGS)) == []
        assert await buffer.dead_letters.newest() == []
        assert buffer.statistics().rows == 20
    assert found.rows == 20
    assert "lost" not in found.words.replace("nothing that was owed is lost", "")


async def test_delivered_rows_of_another_signal_do_not_come_again(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with opened(tmp_path) as buffer:
        await deliver_all(buffer.consumer("a", signal=LOGS))
    lose_first_pages(tmp_path)
    async with opened(tmp_path) as buffer:
        assert (await read_back(buffer)).rows == 20
        assert await take_all(buffer.consumer("a")) == SPANS
        assert not buffer.consumer("a", signal=LOGS).has_more


async def test_what_nobody_asked_for_yet_comes_again_too(tmp_path: Path) -> None:
    await fill(tmp_path, takes_logs=False)
    lose_first_pages(tmp_path)
    async with opened(tmp_path) as buffer:
        await read_back(buffer)
        assert list(buffer.consumers()) == [BacklogName("a")]
        assert await take_all(buffer.consumer("a")) == SPANS
    async with opened(tmp_path) as buffer:
        assert await take_all(buffer.consumer("b", signal=LOGS)) == RECORDS


async def test_what_somebody_asks_for_while_it_comes_again_is_his(tmp_path: Path) -> None:
    """The first destination of logs is configured, and the file is found damaged, at one start."""
    await fill(tmp_path, takes_logs=False)
    lose_first_pages(tmp_path)
    async with opened(tmp_path, keep_delivered_seconds=0) as buffer:
        logs = buffer.consumer("b", signal=LOGS)
        await buffer.flush()
        await read_back(buffer)
        assert await take_all(logs) == RECORDS
    async with opened(tmp_path) as buffer:
        assert await take_all(buffer.consumer("b", signal=LOGS)) == RECORDS


async def test_without_a_word_of_who_is_owed_everybody_gets_his_signal(tmp_path: Path) -> None:
    await fill(tmp_path)
    lose_first_pages(tmp_path)
    (tmp_path / "last-row").unlink()
    async with opened(tmp_path) as buffer:
        for signal in Signal:
            buffer.consumer("a", signal=signal)
        await read_back(buffer)
        bodies = [await take_all(buffer.consumer("a", signal=signal)) for signal in Signal]
    assert bodies == [SPANS, RECORDS, []]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM signal_runs WHERE first_row = 20",
        "DELETE FROM signal_runs WHERE first_row BETWEEN 10 AND 19",
        "DELETE FROM signal_runs WHERE first_row = 0",
        "DELETE FROM signal_runs WHERE first_row >= 40",
        "DELETE FROM signal_runs",
        "UPDATE signal_runs SET signal = 3 WHERE first_row = 20",
        "UPDATE signal_runs SET first_row = 2000 WHERE first_row = 20",
        "UPDATE signal_runs SET sums = x'00' WHERE first_row = 20",
        "UPDATE signal_runs SET signal = 'x' WHERE first_row = 2",
    ],
)
async def test_a_run_that_was_hit_lets_nobody_pass_over_rows(
    tmp_path: Path, statement: str
) -> None:
    await fill(tmp_path)
    change(tmp_path, statement)
    own_copy(tmp_path)
    async with opened(tmp_path, tail_bytes=0) as buffer:
        spans, logs = buffer.consumer("a"), buffer.consumer("a", signal=LOGS)
        found: list[list[bytes]] = [[], []]
        for _ in range(2):
            for bodies, backlog in zip(found, (spans, logs), strict=True):
                while (taken := await backlog.take(max_bytes=1000, max_items=1)) is not None:
                    bodies += [row.body for row in taken.rows]
                    backlog.settle(taken, status=200, at_ns=1)
            await buffer.flush()
            await Salvage(buffer, Counters()).read_back()
        assert set(found[0]) == set(SPANS)
        assert set(found[1]) == set(RECORDS)


@pytest.mark.parametrize("signal", [TRACES, LOGS])
@pytest.mark.parametrize("first", [37, 38, 39, 40])
async def test_the_last_runs_are_missed_when_they_are_gone(
    tmp_path: Path, first: int, signal: Signal
) -> None:
    """What is left is in order, and says that the last rows are of another signal."""
    await fill(tmp_path)
    change(tmp_path, f"DELETE FROM signal_runs WHERE first_row >= {first}")  # noqa: S608
    own_copy(tmp_path)
    async with opened(tmp_path, tail_bytes=0, keep_delivered_seconds=0) as buffer:
        backlog = buffer.consumer("a", signal=signal)
        found: list[bytes] = []
        for _ in range(2):
            found += await take_all(backlog)
            await buffer.flush()
            await Salvage(buffer, Counters()).read_back()
        assert set(found) == set(SPANS if signal is TRACES else RECORDS)


async def test_a_row_whose_signal_was_hit_is_named_by_whom_it_was_owed(tmp_path: Path) -> None:
    await fill(tmp_path)
    change(tmp_path, "UPDATE rows SET signal = 2 WHERE id = 5")
    async with opened(tmp_path, tail_bytes=0) as buffer:
        assert await take_all(buffer.consumer("a")) == [*SPANS[:2], *SPANS[3:]]
        assert await take_all(buffer.consumer("a", signal=LOGS)) == RECORDS
        await buffer.flush()
        (stored,) = await buffer.dead_letters.newest()
    assert (stored.letter.destination, stored.letter.signal) == ("a", TRACES)
    assert (stored.letter.reason, stored.letter.row) == ("damaged_on_disk", 5)
