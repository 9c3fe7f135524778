"""What a destination is owed, summed up when the file is opened: rows between may have gone."""

from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.buffer import owed_ranges
from relay.buffer.sqlite import signal_runs
from relay.buffer.sqlite.signal_runs import Run
from relay.buffer.sqlite.sums import oldest_ns, sums
from relay.buffer.sqlite.types import Totals
from relay.model.records import OwedRange, Position, Signal
from tests.unit.buffer.making import NOW_NS, eventually, opened, piece, request, take

pytestmark = pytest.mark.anyio


async def test_rows_that_went_between_owed_ones_are_not_counted_as_owed(tmp_path: Path) -> None:
    async with opened(tmp_path, row_bytes=1, keep_delivered_seconds=0) as buffer:
        backlog = buffer.consumer("a")
        for spans in (1, 2, 4):
            await buffer.append(request(piece(spans=spans)))
        held = [await take(backlog, max_items=1) for _ in range(3)]
        backlog.settle(held[1], status=200, at_ns=1)
        await buffer.flush()
        await eventually(lambda: buffer.statistics().rows == 2)

    async with opened(tmp_path, row_bytes=1) as buffer:
        found = buffer.consumer("a").statistics()

    assert (found.owed_rows, found.owed_items) == (2, 5)


@given(st.data())
def test_sums_are_those_of_the_items_of_a_signal_in_the_ranges(data: st.DataObject) -> None:
    kinds = st.tuples(st.sampled_from(Signal), st.integers(1, 4))
    rows = data.draw(st.lists(kinds, min_size=1, max_size=9))
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE TABLE rows (id INTEGER PRIMARY KEY, received_ns, spans, raw_bytes, rows_before,"
        " spans_before, bytes_before);"
        "CREATE TABLE signal_runs (first_row INTEGER PRIMARY KEY, signal, sums);"
        "CREATE TABLE tallies (name TEXT PRIMARY KEY, value)"
    )
    before = {signal: Totals() for signal in Signal}
    runs: list[Run] = []
    for row, (signal, items) in enumerate(rows, start=1):
        if not runs or runs[-1].signal is not signal:
            runs.append(Run(row, signal, dict(before)))
        ever = sum(before.values(), Totals())
        values = (row, NOW_NS + row, items, 10 * items, ever.rows, ever.items, ever.raw_bytes)
        connection.execute("INSERT INTO rows VALUES (?,?,?,?,?,?,?)", values)
        before[signal] = before[signal] + Totals(1, items, 10 * items)
    signal_runs.write(connection, runs)
    places = [Position(row, item) for row, (_, n) in enumerate(rows, 1) for item in range(n)]
    ends = [*places, Position(len(rows) + 1)]
    drawn = data.draw(st.sets(st.sampled_from(range(len(ends))), max_size=8))
    cuts = [ends[at] for at in sorted(drawn)]
    ranges = owed_ranges.union(map(OwedRange, cuts[::2], cuts[1::2]))

    for signal in Signal:
        owed = [
            place
            for place in places
            if rows[place.row - 1][0] is signal
            and any(item.start <= place < item.end for item in ranges if item.end)
        ]
        wanted = Totals(len({place.row for place in owed}), len(owed), 10 * len(owed))
        assert sums(connection, ranges, signal) == wanted
        first = min((place.row + NOW_NS for place in owed), default=0)
        assert oldest_ns(connection, ranges, signal) == first
