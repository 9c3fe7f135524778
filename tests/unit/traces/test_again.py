"""Kept rows owed again to one destination: found by time or by trace, exact sums, never lost."""

import json
from pathlib import Path
from typing import Any

import apsw
import pytest

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import BacklogName
from relay.buffer.sqlite import replay_query
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.types import GoneRow, Totals
from relay.buffer.values import KeptRows, OwedAgain
from relay.model.errors import BufferUnavailable
from relay.model.records import Encoding, OwedRange, Position, Signal
from tests.support.builders import protobuf_twin, span, to_body
from tests.support.builders import request as otlp
from tests.unit.buffer.making import (
    NOW_NS,
    deliver_all,
    eventually,
    opened,
    piece,
    request,
    take,
    take_all,
    trace_id,
)

pytestmark = pytest.mark.anyio

MINE, OTHER = "0a" * 16, "0b" * 16


async def send_again(
    buffer: Buffer, backlog: Backlog, ranges: owed_ranges.Ranges
) -> replay_query.Measured:
    before = backlog.ranges
    held = backlog.hold(ranges)
    await buffer.flush()
    measured = await replay_query.measure(buffer._reader.ask, held, Signal.TRACES, also_owed=before)
    assert backlog.release(held, measured.there, measured.sums)
    return measured


def mixed(encoding: Encoding, *ids: str) -> Any:
    made = otlp(*(span(traceId=each, name=f"{number}") for number, each in enumerate(ids)))
    body = to_body(made["resourceSpans"])[1:-1]
    if encoding is Encoding.PROTOBUF:
        body = protobuf_twin(made).SerializeToString()
    packed = tuple(int(each, 16) for each in dict.fromkeys(ids))
    return piece(body, encoding=encoding, spans=len(ids), traces=packed)


async def test_rows_since_a_time_are_found_whatever_the_order_of_times(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        for seconds in (0, 50, 10, 60, 61):
            await buffer.append(request(piece(), received_ns=NOW_NS + seconds * 10**9))
        found = await buffer.replays.since(NOW_NS + 50 * 10**9, Signal.TRACES)

    assert found.ranges == (
        OwedRange(Position(2), Position(3)),
        OwedRange(Position(4), Position(6)),
    )
    assert (found.rows, found.looked_to, found.kept_since_ns) == (3, 5, NOW_NS)


async def test_what_is_owed_again_is_handed_out_and_the_sums_are_exact(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        a, b = buffer.consumer("a"), buffer.consumer("b")
        for number in range(4):
            await buffer.append(request(piece(b"%d" % number * (number + 1), spans=number + 1)))
        await deliver_all(b)
        a.settle(await take(a, max_items=3), status=200, at_ns=NOW_NS)  # the first two
        measured = await send_again(buffer, a, (OwedRange(Position(1), Position(5)),))

        assert (measured.sums.rows, measured.sums.items, measured.sums.raw_bytes) == (2, 3, 3)
        assert a.statistics().owed_items == 10
        assert a.statistics().owed_rows == 4
        assert await take_all(a) == [b"0", b"11", b"222", b"3333"]
        assert await take_all(b) == []
        await deliver_all(a)
        assert (a.statistics().owed_items, a.statistics().owed_rows) == (0, 0)


async def test_nothing_that_is_held_is_handed_out_or_deleted(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=3600) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"one")))
        await buffer.append(request(piece(b"two")))
        await deliver_all(backlog)
        held = backlog.hold((owed_ranges.row_range(1),))
        await buffer.flush()
        assert not backlog.has_more
        # From here on delivered rows go at once.
        buffer.reload(type(buffer.settings)(min_free_bytes=0, keep_delivered_seconds=0))
        await eventually(lambda: buffer.statistics().rows == 1)
        measured = await replay_query.measure(buffer._reader.ask, held, Signal.TRACES, also_owed=())
        assert backlog.release(held, measured.there, measured.sums)

        assert await take_all(backlog) == [b"one"]


async def test_rows_that_went_before_they_were_held_are_not_counted(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        fast, slow = buffer.consumer("fast"), buffer.consumer("slow")
        for number in range(4):
            await buffer.append(request(piece(b"%d" % number)))
        slow.settle(await take(slow, max_items=2), status=200, at_ns=NOW_NS)
        await deliver_all(fast)
        await eventually(lambda: buffer.statistics().rows == 2)
        measured = await send_again(buffer, fast, (OwedRange(Position(1), Position(5)),))

        assert measured.there == (OwedRange(Position(3), Position(5)),)
        assert fast.statistics().owed_items == 2
        assert fast.ranges == (OwedRange(Position(3), None),)
        assert await take_all(fast) == [b"2", b"3"]
    async with opened(tmp_path) as buffer:
        assert buffer.consumer("fast").ranges == (OwedRange(Position(3), None),)


async def test_sums_of_many_rows_are_looked_up_by_small_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_query, "_STEP_ROWS", 2)
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        for each in "ltttltt":
            signal = Signal.TRACES if each == "t" else Signal.LOGS
            await buffer.append(request(piece(b"12345", spans=2, signal=signal)))
        await deliver_all(backlog)
        kept = KeptRows((OwedRange(Position(1), Position(8)),))
        told = await buffer.replays.owe(BacklogName("a"), kept, is_dry_run=False)
        found = backlog.statistics()

        assert told == OwedAgain(5, 10, 25)
        assert (found.owed_rows, found.owed_items, found.owed_bytes) == told
        assert backlog.ranges == (OwedRange(Position(2), None),)
        assert await deliver_all(backlog) == 10


async def test_what_is_owed_again_is_on_disk_before_its_sums_are_looked_up_and_stays_when_they_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else rows of it might go meanwhile."""
    async with opened(tmp_path, flush_seconds=3600) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"one")))
        await deliver_all(backlog)
        await buffer.flush()
        on_disk = []

        async def fail(*_: object, **__: object) -> None:
            connection = apsw.Connection(str(tmp_path / "relay.db"))
            stored = connection.execute("SELECT ranges FROM destinations").get
            connection.close()
            assert isinstance(stored, bytes)
            on_disk.append(owed_ranges.decode(stored))
            raise BufferUnavailable("the disk")

        monkeypatch.setattr(replay_query, "measure", fail)
        kept = KeptRows((owed_ranges.row_range(1),))
        with pytest.raises(BufferUnavailable):
            await buffer.replays.owe(BacklogName("a"), kept, is_dry_run=False)

        assert on_disk == [owed_ranges.open_from(1)]
        assert await take_all(backlog) == [b"one"]


async def test_a_crash_after_the_flush_leaves_it_owed(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"one")))
        await deliver_all(backlog)
        await buffer.flush()
        await send_again(buffer, backlog, (owed_ranges.row_range(1),))
        await buffer.flush()
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for name in ("relay.db", "relay.db-wal"):
            (crashed / name).write_bytes((tmp_path / name).read_bytes())
    async with opened(crashed) as buffer:
        backlog = buffer.consumer("a")

        assert backlog.statistics().owed_items == 1
        assert await take_all(backlog) == [b"one"]


@pytest.mark.parametrize("encoding", Encoding)
async def test_of_a_trace_only_its_own_spans_come_again(tmp_path: Path, encoding: Encoding) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(mixed(encoding, OTHER, MINE, MINE, OTHER, MINE)))
        await buffer.append(request(mixed(encoding, OTHER, OTHER)))
        await buffer.append(request(mixed(encoding, MINE)))
        await deliver_all(backlog)
        found = await buffer.replays.of_trace(bytes.fromhex(MINE), Signal.TRACES)
        measured = await send_again(buffer, backlog, found.ranges)

        assert found.rows == 2
        assert found.ranges == (
            OwedRange(Position(1, 1), Position(1, 3)),
            OwedRange(Position(1, 4), Position(2)),
            OwedRange(Position(3), Position(4)),
        )
        assert (measured.sums.rows, measured.sums.items) == (2, 4)
        assert backlog.statistics().owed_items == 4
        names = []
        while (taken := await backlog.take(max_bytes=1 << 20, max_items=100)) is not None:
            for row in taken.rows:
                if encoding is Encoding.JSON:
                    for entry in json.loads(b"[" + row.body + b"]"):
                        names += [s["name"] for c in entry["scopeSpans"] for s in c["spans"]]
            backlog.settle(taken, status=200, at_ns=NOW_NS)
        if encoding is Encoding.JSON:
            assert names == ["1", "2", "4", "0"]
        statistics = backlog.statistics()
        assert (statistics.owed_items, statistics.owed_rows, statistics.owed_bytes) == (0, 0, 0)


async def test_trace_that_has_gone_is_said_so(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(7,), spans=3)))
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0)
        found = await buffer.replays.of_trace(trace_id(7), Signal.TRACES)
        by_time = await buffer.replays.since(NOW_NS, Signal.TRACES)

    assert (found.ranges, found.rows, found.gone_rows) == ((), 0, 1)
    assert (by_time.rows, by_time.gone_rows, by_time.gone_items) == (0, 1, 3)


async def test_sums_are_right_when_what_is_held_gives_way_before_it_is_released(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(spans=3)))
        await deliver_all(backlog)
        row = (owed_ranges.row_range(1),)
        assert backlog.hold(row) == row
        backlog.evict(row, [GoneRow(1, 3, 7)])
        await buffer.append(request(piece(spans=2)))
        assert backlog.release(row, (), Totals())

        assert (backlog.statistics().owed_items, backlog.statistics().owed_rows) == (2, 1)


async def test_rows_that_have_gone_are_waited_for_no_more_once_they_were_looked_for(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(spans=3)))
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0)
        backlog.owe((owed_ranges.row_range(1),), Totals(1, 3, 7))
        assert backlog.statistics().owed_items == 3

        assert await backlog.take(max_bytes=100, max_items=10) is None
        assert (backlog.statistics().owed_items, backlog.statistics().owed_rows) == (0, 0)


async def test_removed_destination_is_not_owed_what_was_held(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece()))
        await deliver_all(backlog)
        held = backlog.hold((owed_ranges.row_range(1),))
        await buffer.remove(backlog.name)

        assert not backlog.release(held, held, Totals())
        assert not backlog.has_more


async def test_new_destination_that_holds_lets_no_row_go_that_it_wants(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        for number in range(3):
            await buffer.append(request(piece(b"%d" % number)))
        wanted = (OwedRange(Position(2), Position(4)),)
        backlog = buffer._backlogs.open(BacklogName("first"), "end", held=wanted)
        await eventually(lambda: buffer.statistics().rows == 2)
        measured = await replay_query.measure(
            buffer._reader.ask, wanted, Signal.TRACES, also_owed=()
        )
        backlog.release(backlog.in_flight, measured.there, measured.sums)
        await buffer.append(request(piece(b"new")))

        assert await take_all(backlog) == [b"1", b"2", b"new"]
        assert backlog.statistics().owed_items == 3
